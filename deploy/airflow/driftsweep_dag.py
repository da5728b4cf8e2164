"""Runs driftsweep every quarter of an hour. For Airflow 3; on Airflow 2 import DAG from airflow, and BashOperator from
airflow.operators.bash."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

FLEET = "/etc/driftsweep/fleet.toml"

with DAG("driftsweep", schedule="*/15 * * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1):
    tick = BashOperator(
        task_id="tick",
        bash_command=f"driftsweep tick {FLEET} --log json",
        # Another tick is at work: this one is skipped, not failed.
        skip_on_exit_code=13,
        retries=2,
        retry_delay=timedelta(minutes=5),
    )
    # Also after a night with failures: the page shows them.
    report = BashOperator(
        task_id="report",
        bash_command=f"driftsweep report {FLEET} --index /var/www/drift",
        trigger_rule="all_done",
    )
    # A step of its own stays red until the next sweep, or until it is acknowledged.
    status = BashOperator(
        task_id="status",
        bash_command=f"driftsweep status {FLEET} --exit-code",
        trigger_rule="all_done",
    )
    tick >> report >> status
