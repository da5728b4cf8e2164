#!/usr/bin/env python3
"""Compares driftsweep with numpy and scipy on generated data: python against_scipy.py path/to/driftsweep

Awkward columns in several sizes; exits non-zero on the first figure out of tolerance.
Needs numpy, scipy and polars.
"""
import json
import subprocess
import sys
import tempfile

import numpy as np
import polars as pl
from scipy import stats


def columns(rng, n, shift):
    x = {
        "normal": rng.normal(shift, 1, n),
        "normal_f32": rng.normal(100 + shift, 7, n).astype(np.float32),
        "lognormal": rng.lognormal(shift, 2, n),
        "cauchy": rng.standard_cauchy(n) + shift,
        "zero_inflated": np.where(rng.random(n) < 0.6 + 0.1 * shift, 0.0, rng.gamma(2, 3, n)),
        "rounded": np.round(rng.gamma(2, 50, n), 1) + np.round(shift),
        "bimodal_far": np.where(rng.random(n) < 0.5, rng.normal(shift, 1, n), rng.normal(1e12, 1, n)),
        "tiny": rng.normal(0, 1, n) * 5e-324 * 1000,
        "huge": rng.normal(0, 1 + shift, n) * 1e300,
        "int_small": rng.integers(0, 7, n),
        "int_mid": rng.integers(-5000, 5000, n) + int(100 * shift),
        "int_outliers": np.where(rng.random(n) < 0.001, 10**15, rng.integers(0, 100, n)),
        "int_2_53": 2**53 + rng.integers(-50, 50, n),
        "int8": rng.integers(-128, 128, n).astype(np.int8),
        "uint64": rng.integers(0, 2**63, n).astype(np.uint64) * 2,
        "sorted": np.sort(rng.normal(shift, 1, n)),
        "constant": np.full(n, 3.25),
        "two_values": (rng.random(n) < 0.3 + 0.1 * shift).astype(np.float64),
        "negative": -rng.exponential(5, n) - shift,
        "signs": rng.choice([-1.0, 1.0, -0.0, 0.0], n),
    }
    with_nan = rng.normal(shift, 1, n)
    with_nan[rng.random(n) < 0.2] = np.nan
    x["with_nan"] = with_nan
    return x


def psi(ref, cur):
    edges = np.percentile(ref.astype(np.float64), np.linspace(0, 100, 11))
    edges[0], edges[-1] = -np.inf, np.inf
    e, a = (np.histogram(v.astype(np.float64), edges)[0] for v in (ref, cur))
    e, a = e / e.sum(), a / a.sum()
    e, a = np.where(e == 0, 1e-10, e), np.where(a == 0, 1e-10, a)
    return float(np.sum((a - e) * np.log(a / e)))


def near(found, wanted, relative, what, absolute=1e-14):
    if not abs(found - wanted) <= max(relative * abs(wanted), absolute):
        sys.exit(f"{what}: driftsweep {found!r}, reference {wanted!r}")


def main(binary):
    checked = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed, (n, m, shift, group) in enumerate([(1, 1, 0, 10), (2, 3, 0.5, 1), (9, 11, 0, 4), (100, 100, 0.3, 7), (101, 57, 0, 50),
                                                     (5000, 9999, 0.02, 999), (10000, 10000, 0, 10000), (10001, 300, 0.1, 3000),
                                                     (50000, 20000, 0, 7777), (300000, 250000, 0.05, 65536), (2000000, 1500000, 0, 131072)]):
            rng = np.random.default_rng(seed)
            a, b = columns(rng, n, 0.0), columns(rng, m, shift)
            paths = []
            for name, table in (("a", a), ("b", b)):
                paths.append(f"{folder}/{name}.parquet")
                pl.DataFrame(table).write_parquet(paths[-1], row_group_size=group)
            for memory in ("512MiB", "16MiB"):
                out = subprocess.run([binary, "compare", *paths, "--format", "json", "--memory", memory], capture_output=True, text=True)
                assert out.returncode in (0, 11), out.stderr
                features = {f["name"]: f for f in json.loads(out.stdout)["features"]}
                for name in a:
                    what = f"n={n} m={m} {memory} {name}"
                    ref, cur = (v[~np.isnan(v)] if v.dtype.kind == "f" else v for v in (a[name], b[name]))
                    found = features[name]
                    if not len(ref) or not len(cur):
                        assert found["status"] == "all_null", what
                        continue
                    metrics = found["metrics"]
                    near(metrics["psi"]["reference_value"], psi(ref, cur), 1e-12, what + " psi")
                    ks = stats.ks_2samp(ref, cur)
                    assert metrics["ks"]["exact"], what
                    near(metrics["ks"]["statistic"], ks.statistic, 1e-12, what + " ks")
                    near(metrics["ks"]["p_value"], ks.pvalue, 1e-6, what + " ks p", 1e-300)
                    if name not in ("huge", "uint64", "int_2_53"):
                        # scipy sums in doubles; those three overflow or round there.
                        w = stats.wasserstein_distance(ref.astype(np.float64), cur.astype(np.float64))
                        scale = float(np.ptp(ref.astype(np.float64))) if name in ("cauchy", "bimodal_far", "int_outliers") else 0.0
                        near(metrics["wasserstein"]["value"], w, 1e-9, what + " wasserstein", max(1e-14, 1e-13 * scale))
                    if name not in ("huge", "tiny", "constant", "int_2_53"):
                        # Sums of those overflow, underflow or round in both.
                        r, c = ref.astype(np.float64), cur.astype(np.float64)
                        near(metrics["moments"]["mean_shift"], c.mean() - r.mean(), 1e-6, what + " mean", 1e-12 * float(np.abs(r).max()))
                        near(found["baseline"]["std"], r.std(), 1e-9, what + " std", 1e-300)
                    for q in metrics["quantiles"]:
                        near(q["current"], float(np.percentile(cur.astype(np.float64), q["percent"])), 1e-12, what + f" p{q['percent']}")
                    checked += 1
    print(f"{checked} columns agree with numpy and scipy")


main(*sys.argv[1:])
