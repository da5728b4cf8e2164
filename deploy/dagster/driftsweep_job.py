"""Runs driftsweep every quarter of an hour. Load it with `dagster dev -f driftsweep_job.py`."""

import subprocess

from dagster import Definitions, Failure, OpExecutionContext, ScheduleDefinition, job, op

FLEET = "/etc/driftsweep/fleet.toml"
# 13: another tick is at work.
FINE = (0, 13)


@op
def tick(context: OpExecutionContext) -> None:
    done = subprocess.run(["driftsweep", "tick", FLEET, "--log", "json"], capture_output=True, text=True, check=False)
    context.log.info(done.stdout)
    if done.returncode not in FINE:
        raise Failure(f"exit code {done.returncode}: {done.stderr[-2000:]}")


@job
def driftsweep() -> None:
    tick()


definitions = Definitions(jobs=[driftsweep], schedules=[ScheduleDefinition(job=driftsweep, cron_schedule="*/15 * * * *")])
