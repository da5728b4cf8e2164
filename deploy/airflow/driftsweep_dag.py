"""Runs driftsweep every quarter of an hour. For Airflow 3; on Airflow 2 import DAG from airflow, task from
airflow.decorators, and BashOperator from airflow.operators.bash."""

import subprocess
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

try:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:
    # Older versions of Airflow have them here.
    from airflow.exceptions import AirflowFailException, AirflowSkipException

FLEET = "/etc/driftsweep/fleet.toml"
# Codes that a retry may change: internal error, deadline, store away.
RETRIED = (1, 12, 14)

with DAG("driftsweep", schedule="*/15 * * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1):

    @task(retries=2, retry_delay=timedelta(minutes=5))
    def tick() -> None:
        command = ["driftsweep", "tick", FLEET, "--log", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(done.stdout + done.stderr)
        code = done.returncode
        if code == 13:
            raise AirflowSkipException("another tick is at work")
        # A negative code: the process was killed.
        if code in RETRIED or code < 0:
            raise RuntimeError(f"exit code {code}: it is tried again")
        if code != 0:
            raise AirflowFailException(f"exit code {code}: a retry does not change it")

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
    tick() >> report >> status
