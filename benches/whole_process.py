#!/usr/bin/env python3
"""Whole-process times against polars scanning the same files and summing every column.

    python3 -m venv /tmp/bench && /tmp/bench/bin/pip install numpy==2.4.6 polars==2.1.0
    cargo build --release
    /tmp/bench/bin/python benches/whole_process.py target/release/driftsweep [--data DIR] [--runs 5]

The data is made once (about 6 GB in DIR, by default the temporary directory). Runs are taken in turn, so that
a slow moment of the machine hits all of them; the table gives the median, and ratios of medians to polars.
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

SCAN = """
import sys, polars as pl
for path in sys.argv[1:]:
    pl.scan_parquet(path).select(pl.all().sum()).collect()
"""


def wide(rows, seed, shift):
    """100 numeric columns: normal, lognormal, float32, integers, rounded gamma."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    kinds = [lambda j: rng.normal(10 + j, 1 + j / 10, rows) + shift * (j % 7 == 0), lambda j: rng.lognormal(0, 1, rows),
             lambda j: rng.normal(0, 1, rows).astype(np.float32), lambda j: rng.integers(0, 1000 + j, rows),
             lambda j: np.round(rng.gamma(2, 50, rows), 2)]
    return pl.DataFrame({f"f{j:03}": kinds[j % 5](j) for j in range(100)})


def make(folder):
    """Runs in a process of its own: a child's peak memory starts at that of the process it was forked from."""
    import numpy as np
    import polars as pl

    def once(name, build):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            build(path + ".part")
            os.rename(path + ".part", path)
        return path

    for seed, (side, shift) in enumerate((("ref", 0.0), ("cur", 0.1))):
        for compression in ("zstd", "uncompressed"):
            once(f"wide-{compression}-{side}.parquet", lambda p, c=compression: wide(1_000_000, seed, shift).write_parquet(p, compression=c))
        once(f"long-zstd-{side}.parquet", lambda p: pl.concat([wide(1_000_000, 10 * seed + 10 + i, shift) for i in range(4)]).write_parquet(p))
        for model in range(200):
            rng = np.random.default_rng(1000 * seed + model)
            columns = (lambda j: rng.normal(j, 1, 20_000), lambda j: rng.lognormal(0, 1, 20_000), lambda j: rng.integers(0, 500, 20_000))
            once(f"m{model:03}-{side}.parquet", lambda p: pl.DataFrame({f"f{j:02}": columns[j % 3](j) for j in range(30)}).write_parquet(p))
    for name, baseline in (("live", "m{:03}-ref.parquet"), ("frozen", "baselines/m{:03}.baseline")):
        with open(os.path.join(folder, f"{name}.toml"), "w", encoding="utf-8") as f:
            for model in range(200):
                f.write(f'[[model]]\nname = "m{model:03}"\nbaseline = "{baseline.format(model)}"\ncurrent = "m{model:03}-cur.parquet"\n\n')


def timed(command):
    start = time.monotonic()
    pid = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--data", default=os.path.join(tempfile.gettempdir(), "driftsweep-bench"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only-make", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    os.makedirs(args.data, exist_ok=True)
    if args.only_make:
        make(args.data)
        return
    subprocess.run([sys.executable, __file__, args.binary, "--data", args.data, "--only-make"], check=True)
    data = lambda name: os.path.join(args.data, name)
    quick = ["--metrics", "psi,ks,js"]
    subprocess.run([args.binary, "baseline", "build", "--fleet", data("live.toml"), "-o", data("baselines")], check=True, capture_output=True)
    cases = []
    for kind, what in (("wide-zstd", "1,000,000 x 100, zstd"), ("wide-uncompressed", "1,000,000 x 100, uncompressed"), ("long-zstd", "4,000,000 x 100, zstd")):
        ref, cur, frozen = data(f"{kind}-ref.parquet"), data(f"{kind}-cur.parquet"), data(f"{kind}.baseline")
        subprocess.run([args.binary, "baseline", "build", ref, "-o", frozen], check=True, capture_output=True)
        cases.append((what, [("polars scan + sum, both", [sys.executable, "-c", SCAN, ref, cur]),
                             ("psi,ks,js", [args.binary, "compare", ref, cur, *quick]),
                             ("all metrics", [args.binary, "compare", ref, cur]),
                             ("psi,ks,js, frozen baseline", [args.binary, "compare", frozen, cur, *quick])]))
    files = [data(f"m{model:03}-{side}.parquet") for model in range(200) for side in ("ref", "cur")]
    cases.append(("200 models x 20,000 x 30, zstd", [("polars scan + sum, both", [sys.executable, "-c", SCAN, *files]),
                                                     ("psi,ks,js", [args.binary, "sweep", data("live.toml"), *quick]),
                                                     ("all metrics", [args.binary, "sweep", data("live.toml")]),
                                                     ("psi,ks,js, frozen baselines", [args.binary, "sweep", data("frozen.toml"), *quick])]))
    print("| data, a side | run | wall s | CPU s | peak MB | wall / polars |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for what, runs in cases:
        for _, command in runs:
            timed(command)  # into the page cache
        taken = {name: [] for name, _ in runs}
        for _ in range(args.runs):
            for name, command in runs:
                taken[name].append(timed(command))
        median = {name: [statistics.median(column) for column in zip(*times)] for name, times in taken.items()}
        base = median[runs[0][0]][0]
        for name, (wall, cpu, peak) in median.items():
            print(f"| {what} | {name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {wall / base:.2f} |", flush=True)


main()
