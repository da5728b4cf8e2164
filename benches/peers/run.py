#!/usr/bin/env python3
"""Drift metrics of two Parquet snapshots: driftsweep against what people use today.

    python3 benches/peers/run.py target/release/driftsweep [--runs 3] [--limit 120] [--peers NAME,...]

Needs Python 3.11 or later with venv, on Linux, and a package index for the first run. README.md says how to read the table.
"""
import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = ["10000x20", "100000x100", "1000000x100"]
DRIFTSWEEP = "driftsweep psi,ks,js"

# name, environment and script, further arguments, what it computes, what its definitions are where they are its own
PEERS = [
    ("numpy_scipy", "numpy_scipy", [], "PSI, KS and p; JS", ""),
    ("polars_handwritten", "polars_handwritten", [], "PSI, KS; JS", ""),
    ("duckdb_handwritten", "duckdb_handwritten", [], "PSI, KS; JS", ""),
    ("evidently", "evidently", [], "PSI, KS p; JS", "PSI over equal-width bins: own definition"),
    ("evidently_default", "evidently", ["default"], "Wasserstein; JS", "normed Wasserstein: own definition"),
    ("nannyml", "nannyml", [], "KS, JS; JS", "KS from a histogram from 10,000 values on; numeric JS: own definition"),
    ("whylogs", "whylogs", [], "KS; chi-square", "KS from sketches; chi-square: own definition"),
    ("alibi_detect", "alibi_detect", [], "KS and p; chi-square", "figures in 32 bits"),
]
NAMES = {"psi": "PSI", "ks": "KS", "ks_p": "KS p", "js": "JS", "chi2": "chi-square", "wasserstein": "Wasserstein"}


def environment(envs, name):
    """The Python of this peer's environment, or why there is none."""
    wanted = os.path.join(HERE, "requirements", name + ".txt")
    folder = os.path.join(envs, name)
    stamp, python = os.path.join(folder, "installed.txt"), os.path.join(folder, "bin", "python")
    if os.path.exists(stamp) and open(stamp).read() == open(wanted).read():
        return python, None
    print(f"installing {name} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    for command in ([sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines() or ["no message"]
            return None, errors[-1][:300]
    shutil.copy(wanted, stamp)
    return python, None


def resident(pid):
    """Bytes of a process and its descendants; memory they share counts for each."""
    try:
        with open(f"/proc/{pid}/statm") as f:
            total = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                total += sum(resident(int(child)) for child in f.read().split())
        return total
    except (OSError, IndexError):
        return 0  # it has just ended


def timed(command, limit, memory, log):
    """What one run took; it is watched rather than limited by RLIMIT_AS, since arenas reserve far more than they use."""
    start, peak, stopped = time.monotonic(), 0, None
    with open(log, "wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    while True:
        # Waits without reaping: the figures come from wait4 below, and the group can still be ended by its number.
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        peak = max(peak, resident(child.pid))
        if time.monotonic() - start > limit:
            stopped = "time"
        elif peak > memory:
            stopped = "memory"
        if stopped:
            break
        time.sleep(min(0.1, max(0.002, (time.monotonic() - start) / 100)))
    wall = time.monotonic() - start
    try:
        os.killpg(child.pid, signal.SIGKILL)  # also workers that outlive their parent
    except ProcessLookupError:
        pass
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": max(peak, usage.ru_maxrss * 1024), "stopped": stopped,
            "code": child.returncode}


def last_line(log):
    lines = [line.strip() for line in open(log, encoding="utf-8", errors="replace") if line.strip()]
    return lines[-1][:300].replace("|", "/") if lines else "no message"


def imports(log):
    for line in open(log, encoding="utf-8", errors="replace"):
        if line.startswith("imports_s "):
            return float(line.split()[1])
    return None


def own_figures(path):
    """driftsweep's report in the peers' form."""
    result = {}
    for feature in json.load(open(path, encoding="utf-8"))["features"]:
        metrics = feature["metrics"]
        if feature["kind"] == "numeric":
            found = {"psi": metrics["psi"]["reference_value"], "ks": metrics["ks"]["statistic"], "ks_p": metrics["ks"]["p_value"]}
            if "wasserstein" in metrics:
                found["wasserstein"] = metrics["wasserstein"]["value"]
        else:
            found = {"js": metrics["js"]["distance"]}
            if "chi_square" in metrics:
                found["chi2"] = metrics["chi_square"]["statistic"]
        result[feature["name"]] = found
    return result


def agreement(found, expected, note):
    """How many figures equal numpy's and scipy's; figures of other definitions have names that are not expected."""
    parts = []
    for metric in NAMES:
        pairs = [(found[name][metric], expected[name][metric]) for name in expected if metric in expected[name] and metric in found.get(name, {})]
        if pairs:
            tolerance = 1e-6 if metric == "ks_p" or note.endswith("32 bits") else 1e-9
            # A figure that a tool could not give is null or NaN, and does not agree.
            agree = sum(a is not None and math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-12) for a, b in pairs)
            parts.append(f"{NAMES[metric]} {agree} of {sum(metric in figures for figures in expected.values())}")
    return "; ".join(filter(None, [", ".join(parts), note]))


def version(python, requirements):
    """Of the package that the peer is about."""
    package = requirements.split("_handwritten")[0].replace("numpy_scipy", "scipy").replace("_", "-")
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return package + " " + subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def row(case, tool, what, result, base):
    what_case = "{:,} x {}".format(*map(int, case.split("x")))
    if "error" in result:
        return f"| {what_case} | {tool} | {what} | | | | | {result['error']} | |"
    if "stopped" in result:
        why = f"stopped after {result['wall']:.0f} s, over the {result['stopped']} limit"
        wall = f"> {result['wall']:.0f}" if result["stopped"] == "time" else ""
        ratio = f"> {result['wall'] / base:.0f}" if base and wall else ""
        return f"| {what_case} | {tool} | {what} | {wall} | | | {result['peak'] / 1e6:.0f} | {why} | {ratio} |"
    imported = f"{result['imports']:.2f}" if result["imports"] is not None else "–"
    ratio = f"{result['wall'] / base:.1f}" if base else ""
    return (f"| {what_case} | {tool} | {what} | {result['wall']:.2f} | {imported} | {result['cpu']:.2f} | {result['peak'] / 1e6:.0f} "
            f"| {result['agreement']} | {ratio} |")


def run_once(command, out, log, limits, ok_codes):
    if os.path.exists(out):
        os.remove(out)
    taken = timed(command, *limits, log)
    if taken["stopped"]:
        return taken
    if taken["code"] not in ok_codes or not os.path.exists(out):
        return {"error": f"failed ({taken['code']}): {last_line(log)}"}
    return {key: taken[key] for key in ("wall", "cpu", "peak")} | {"imports": imports(log)}


def measure(case, tools, args, limits, given_up):
    """Results by tool, of several runs in turn, so that a slow moment of the machine hits all tools."""
    paths = [os.path.join(args.data, f"{case}-{side}.parquet") for side in ("ref", "cur")]
    expected = json.load(open(os.path.join(args.data, f"{case}-expected.json"), encoding="utf-8"))
    for path in paths:
        with open(path, "rb") as f:
            while f.read(1 << 24):
                pass  # into the page cache
    runs, results = {name: [] for name in tools}, {}
    for turn in range(args.runs):
        for name, (command, _, note) in tools.items():
            if name in results:
                continue
            if name in given_up:
                results[name] = {"error": f"not run: {given_up[name]}"}
                continue
            print(f"{case} {name}, run {turn + 1} of {args.runs}", file=sys.stderr, flush=True)
            out, log = (os.path.join(args.data, f"{case}-{name.replace(' ', '-')}.{kind}") for kind in ("json", "log"))
            own = name.startswith("driftsweep")
            # 10 and 11 are driftsweep's "drift found" and "some features not compared".
            taken = run_once(command(*paths, out), out, log, limits, (0, 10, 11) if own else (0,))
            if "error" in taken:
                results[name] = taken
            elif "stopped" in taken:
                results[name] = taken
                given_up[name] = f"over the {taken['stopped']} limit at {case}"
            else:
                runs[name].append(taken)
                if turn == args.runs - 1:
                    found = own_figures(out) if own else json.load(open(out, encoding="utf-8"))
                    taken["agreement"] = agreement(found, expected, note)
    for name, takes in runs.items():
        if name not in results:
            median = {key: statistics.median(take[key] for take in takes) for key in ("wall", "cpu", "peak")}
            seconds = [take["imports"] for take in takes if take["imports"] is not None]
            results[name] = median | {"imports": statistics.median(seconds) if seconds else None, "agreement": takes[-1]["agreement"]}
    return results


def main():
    scratch = os.path.join(tempfile.gettempdir(), "driftsweep-peers")
    parser = argparse.ArgumentParser(description="driftsweep against other tools: time, memory and agreement")
    parser.add_argument("binary")
    parser.add_argument("--data", default=os.path.join(scratch, "data"), help="folder for the snapshots, about 1 GB, made once")
    parser.add_argument("--envs", default=os.path.join(scratch, "envs"), help="folder for the environments, about 6 GB, made once")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", default=",".join(name for name, *_ in PEERS), help="comma-separated, of: %(default)s")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated, of: %(default)s")
    parser.add_argument("--limit", type=float, default=300, help="seconds a run may take (default %(default)s)")
    parser.add_argument("--memory", type=float, help="GB a run may take (default: 80 %% of what is available at the start)")
    parser.add_argument("--output", help="file for the table, beside standard output")
    args = parser.parse_args()
    wanted = args.peers.split(",")
    for name in set(wanted) - {name for name, *_ in PEERS}:
        parser.error(f"unknown peer {name}")
    cases = [case for case in CASES if case in args.cases.split(",")]
    if args.runs < 1 or not cases:
        parser.error("nothing to run")
    binary = os.path.abspath(args.binary)
    for folder in (args.data, args.envs):
        os.makedirs(folder, exist_ok=True)
    with open("/proc/meminfo") as f:
        available = next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    limits = (args.limit, args.memory * 1e9 if args.memory else 0.8 * available)

    maker, why = environment(args.envs, "numpy_scipy")
    if why:
        sys.exit(f"numpy, scipy and pyarrow are needed to make the data: {why}")
    # In a process of its own: a child's peak memory starts at that of the process it was forked from.
    subprocess.run([maker, "-P", os.path.join(HERE, "data.py"), args.data, *cases], check=True)

    compare = lambda ref, cur, out: [binary, "compare", ref, cur, "--format", "json", "--output", out]
    tools = {DRIFTSWEEP: (lambda ref, cur, out: [*compare(ref, cur, out), "--metrics", "psi,ks,js"], "PSI, JS, KS and p; PSI, JS", ""),
             "driftsweep all metrics": (compare, "all metrics", "")}
    missing, label = {}, {name: name for name in tools}
    for name, script, more, what, note in PEERS:
        if name in wanted:
            python, why = environment(args.envs, script)
            if why:
                missing[name] = (what, {"error": f"not installed: {why}".replace("|", "/")})
                label[name] = name
                continue
            # -P keeps this folder out of the import path: some scripts are named like the package they use.
            command = [python, "-P", os.path.join(HERE, script + ".py")]
            tools[name] = (lambda ref, cur, out, c=command, m=more: [*c, ref, cur, out, *m], what, note)
            label[name] = f"{name} ({version(python, script)})"

    print("reading every tool's files once", file=sys.stderr, flush=True)
    for name, (command, *_) in tools.items():
        paths = [os.path.join(args.data, f"{cases[0]}-{side}.parquet") for side in ("ref", "cur")]
        timed(command(*paths, os.path.join(args.data, "first.json")), *limits, os.path.join(args.data, "first.log"))

    lines = ["| rows x columns a side | tool | numeric; text | wall s | imports s | CPU s | peak MB | agrees with numpy and scipy | wall / driftsweep |",
             "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: |"]
    print("\n".join(lines), flush=True)
    given_up = {}
    for case in cases:
        results = measure(case, tools, args, limits, given_up)
        base = results[DRIFTSWEEP].get("wall")
        everything = {name: (tools[name][1], result) for name, result in results.items()} | missing
        order = [name for name in (*list(tools)[:2], *wanted) if name in everything]
        for name in order:
            lines.append(row(case, label[name], everything[name][0], everything[name][1], base))
            print(lines[-1], flush=True)
    if args.output:
        with open(args.output, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")


main()
