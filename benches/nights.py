#!/usr/bin/env python3
"""False alarms and missed drift: nights of a generated fleet, without drift and then with it, one tick each.

    python3 benches/nights.py target/release/driftsweep /tmp/nights [--models 1000 --features 50 --rows 2000 --quiet 30]

Prints the events a night before drift begins, and how many models had one by the second night after.
The fleet takes some 16 GB at the default size; what is there already is used again.
"""

import argparse
import collections
import datetime
import json
import pathlib
import shutil
import subprocess
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("driftsweep")
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--models", type=int, default=1000)
parser.add_argument("--features", type=int, default=50)
parser.add_argument("--rows", type=int, default=2000)
parser.add_argument("--quiet", type=int, default=30, help="nights without drift")
args = parser.parse_args()

nights = args.quiet + 2
fleet, state = args.folder / "fleet.toml", args.folder / "state"
if not fleet.exists():
    sizes = ["--models", args.models, "--features", args.features, "--rows", args.rows]
    drift = ["--nights", nights, "--drift-from", args.quiet + 1, "--drift", 0.1, "--drift-size", 0.25]
    command = [args.driftsweep, "bench", "generate", args.folder, *sizes, *drift]
    subprocess.run(list(map(str, command)), check=True)
shutil.rmtree(state, ignore_errors=True)

opened = collections.Counter()
started = time.time()
for night in range(1, nights + 1):
    # The night of a day is swept early on the next one.
    now = datetime.datetime(2026, 1, 1, 3) + datetime.timedelta(days=night)
    command = [args.driftsweep, "tick", fleet, "--state", state, "--now", f"{now.isoformat()}Z", "--format", "json"]
    ticked = json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True).stdout)
    opened[night] = len(ticked["events"])

false = sum(opened[night] for night in range(1, args.quiet + 1))
found = sum(opened[night] for night in range(args.quiet + 1, nights + 1))
models = len(json.loads((args.folder / "truth.json").read_text())["tables"])
print(f"{nights} nights, {models} models: {(time.time() - started) / nights:.1f} s a night")
print(f"without drift: {false} events in {args.quiet} nights, {false / args.quiet:.3f} a night")
print(f"with drift: {found} of {models} models by the second night ({100 * found / models:.1f} %)")
