#!/usr/bin/env python3
"""A night's sweep of a generated fleet, and a very wide table, against polars reading and summing the same columns.

    python3 -m venv /tmp/bench && /tmp/bench/bin/pip install polars==2.1.0
    cargo build --release
    /tmp/bench/bin/python benches/fleet.py target/release/driftsweep [--data DIR] [--runs 3] [--only fleet|wide]

The data is made once by `driftsweep bench generate` (about 8 GB for the fleet, 8 GB for the wide table, in DIR, by default the
temporary directory). Runs are taken in turn; the table gives medians. Numbers are summed, text is decoded.
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

READ = """
import glob, sys, polars as pl, polars.selectors as cs
for pattern in sys.argv[1:]:
    for path in sorted(glob.glob(pattern)):
        pl.read_parquet(path).select(cs.numeric().sum())
"""


def timed(command):
    start = time.monotonic()
    pid = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def generated(binary, folder, *arguments):
    if not os.path.exists(os.path.join(folder, "fleet.toml")):
        subprocess.run([binary, "bench", "generate", folder, *arguments], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--data", default=os.path.join(tempfile.gettempdir(), "driftsweep-fleet"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["fleet", "wide"])
    args = parser.parse_args()
    quick = ["--metrics", "psi,ks,js", "--no-state"]
    python = [sys.executable, "-c", READ]
    cases = []
    if args.only != "wide":
        fleet = os.path.join(args.data, "fleet")
        generated(args.binary, fleet, "--models", "1000", "--features", "50", "--rows", "20000")
        live, frozen = os.path.join(fleet, "fleet.toml"), os.path.join(fleet, "frozen.toml")
        if not os.path.exists(os.path.join(fleet, "frozen")):
            subprocess.run([args.binary, "baseline", "build", "--fleet", live, "-o", os.path.join(fleet, "frozen")], check=True, capture_output=True)
        with open(live, encoding="utf-8") as source, open(frozen, "w", encoding="utf-8") as target:
            name = ""
            for line in source:
                if line.startswith("name = \"model"):
                    name = line.split('"')[1]
                target.write(f'baseline = "frozen/{name}.baseline"\n' if line.startswith("baseline") else line)
        cases.append(("1,000 models x 50 x 20,000", [
            ("polars read + sum, current side", [*python, f"{fleet}/current/*.parquet"]),
            ("psi,ks,js, frozen baselines", [args.binary, "sweep", frozen, *quick]),
            ("psi,ks,js, frozen, journal and history", [args.binary, "sweep", frozen, *quick[:2]]),
            ("all metrics, frozen baselines", [args.binary, "sweep", frozen, "--no-state"]),
            ("psi,ks,js, both sides read", [args.binary, "sweep", live, *quick]),
        ]))
    if args.only != "fleet":
        for columns in (100, 10_000):
            wide = os.path.join(args.data, f"wide-{columns}")
            generated(args.binary, wide, "--models", "1", "--features", str(columns), "--rows", "100000")
            fleet = os.path.join(wide, "fleet.toml")
            cases.append((f"100,000 x {columns:,}", [
                ("polars read + sum, both sides", [*python, f"{wide}/baseline/*.parquet", f"{wide}/current/*.parquet"]),
                ("psi,ks,js", [args.binary, "sweep", fleet, *quick]),
                ("all metrics", [args.binary, "sweep", fleet, "--no-state"]),
            ]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    print("| data, a side | run | wall s | CPU s | peak MB | wall / polars |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for what, runs in cases:
        taken = {name: [] for name, _ in runs}
        for _ in range(args.runs):
            for name, command in runs:
                taken[name].append(timed(command))
        median = {name: [statistics.median(column) for column in zip(*times)] for name, times in taken.items()}
        base = median[runs[0][0]][0]
        for name, (wall, cpu, peak) in median.items():
            print(f"| {what} | {name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {wall / base:.2f} |", flush=True)


main()
