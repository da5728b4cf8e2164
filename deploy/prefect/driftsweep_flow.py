"""Runs driftsweep every quarter of an hour: `python driftsweep_flow.py` serves it."""

import subprocess

from prefect import flow, get_run_logger

FLEET = "/etc/driftsweep/fleet.toml"
# 13: another tick is at work.
FINE = (0, 13)


@flow(name="driftsweep")
def tick() -> None:
    done = subprocess.run(["driftsweep", "tick", FLEET, "--log", "json"], capture_output=True, text=True, check=False)
    get_run_logger().info(done.stdout)
    if done.returncode not in FINE:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    tick.serve(cron="*/15 * * * *")
