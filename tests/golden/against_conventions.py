#!/usr/bin/env python3
"""Compares driftsweep's conventions with the tools: python against_conventions.py path/to/driftsweep

evidently 0.7.23, nannyml 0.13.1 and deepchecks 0.19.1 are called themselves where they are installed (each wants an
environment of its own); TFDV and Azure Machine Learning, which run in Beam and Spark, are followed in numpy and scipy.
Exits non-zero on the first figure out of tolerance. Needs numpy, scipy, pandas and pyarrow.

python against_conventions.py --record adds what the tools say about January and July of the flights to
conventions.json, which the tests compare with.
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd
from scipy import stats
from scipy.spatial.distance import jensenshannon


def columns(rng, n, shift):
    gamma = rng.gamma(2, 3, n)
    return pd.DataFrame({
        "normal": rng.normal(shift, 1, n),
        "normal_f32": rng.normal(100 + shift, 7, n).astype(np.float32),
        "lognormal": rng.lognormal(shift, 1, n),
        "zero_inflated": np.where(rng.random(n) < 0.6, 0.0, gamma),
        "with_nan": np.where(rng.random(n) < 0.2, np.nan, gamma + shift),
        "int_mid": rng.integers(-5000, 5000, n) + int(100 * shift),
        "int_tight": rng.integers(0, 9, n) + rng.integers(0, 30, n),
        "int_seven": np.minimum(rng.integers(0, 7, n) + int(2 * shift), 8),
        "three_values": rng.integers(0, 3, n).astype(float),
        "narrower": rng.uniform(0, 1 + shift, n),
        "constant": np.full(n, 3.25),
        "text": pd.Series([f"c{int(x)}" for x in rng.exponential(3 + 3 * shift, n)]),
        "text_even": pd.Series([f"k{int(x)}" for x in rng.integers(0, 5 + int(2 * shift), n)]),
        "text_two": pd.Series(np.where(rng.random(n) < 0.3 + 0.1 * shift, "yes", "no")),
        "text_rare": pd.Series([f"r{int(x)}" for x in rng.pareto(0.8, n).clip(0, 1e6)]),
        "text_null": pd.Series(np.where(rng.random(n) < 0.1, None, np.where(rng.random(n) < 0.5 - 0.2 * shift, "a", "b"))),
    })


def evidently(ref, cur, numeric):
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType
    kind = ColumnType.Numerical if numeric else ColumnType.Categorical
    names = {"psi": "psi", "js": "jensenshannon", "kl": "kl_div"}
    names |= {"wasserstein": "wasserstein"} if numeric else {"hellinger": "hellinger"}
    result = {}
    for ours, theirs in names.items():
        test = get_stattest(ref, cur, kind, theirs)
        result[ours] = float(test(ref.copy(), cur.copy(), kind, None).drift_score)
    test = get_stattest(ref, cur, kind, None)
    result["decides"] = {v: k for k, v in names.items()}.get(test.name)
    return result


def nannyml(ref, cur, numeric):
    from nannyml.chunk import SizeBasedChunker
    from nannyml.drift.univariate.methods import MethodFactory, FeatureType
    from nannyml.thresholds import ConstantThreshold
    kind = FeatureType.CONTINUOUS if numeric else FeatureType.CATEGORICAL
    names = {"js": "jensen_shannon", "hellinger": "hellinger"}
    names |= {"ks": "kolmogorov_smirnov", "wasserstein": "wasserstein"} if numeric else {"l_infinity": "l_infinity"}
    chunker, threshold, result = SizeBasedChunker(chunk_size=10**9), ConstantThreshold(upper=0.1), {}
    for ours, theirs in names.items():
        method = MethodFactory.create(key=theirs, feature_type=kind, chunker=chunker, threshold=threshold)
        # Above 10,000 rows it estimates these two from 10,000 bins unless told otherwise.
        method.calculation_method = "exact"
        method._fit(ref)
        result[ours] = float(method._calculate(cur))
    return result


def deepchecks(ref, cur, numeric):
    from deepchecks.utils.distribution.drift import cramers_v, kolmogorov_smirnov, psi
    if numeric:
        return {"ks": float(kolmogorov_smirnov(ref.to_numpy(), cur.to_numpy()))}
    return {"cramers_v": float(cramers_v(ref.to_numpy(), cur.to_numpy(), min_category_size_ratio=0.01)),
            "psi": float(psi(ref.to_numpy(), cur.to_numpy(), min_category_size_ratio=0.01))}


def frequencies(ref, cur):
    keys = sorted(set(ref) | set(cur))
    return (s.value_counts().reindex(keys, fill_value=0).to_numpy() for s in (ref, cur))


def azureml(ref, cur, numeric):
    """assets/model_monitoring/components of Azure/azureml-assets: get_dual_histogram_bin_edges, _psi_numerical, ..."""
    n, m = len(ref), len(cur)
    result = {}
    if numeric:
        low, high = min(ref.min(), cur.min()), max(ref.max(), cur.max())
        bins = math.ceil(math.log2(min(n, m)) + 1)
        width = (float(high) - float(low)) / bins
        edges = [float(low) + i * width for i in range(bins + 1)] if low != high else [float(low), float(low) * 1.01]
        # Spark's RDD.histogram leaves out what lies outside of the edges, as numpy's does.
        a, b = (np.histogram(s.to_numpy(), edges)[0] for s in (ref, cur))
        norm = max(ref.astype(np.float64).std(ddof=1), 0.001)
        result["wasserstein"] = stats.wasserstein_distance(ref, cur) / norm
    else:
        a, b = frequencies(ref, cur)
    r, c = (a + 1) / n, (b + 1) / m
    return result | {"psi": float(np.sum((c - r) * np.log(c / r))), "js": float(jensenshannon(a / n, b / m, base=2))}


def tfdv(ref, cur, numeric):
    """anomalies/metrics.cc of tensorflow/data-validation over standard histograms of ten buckets."""
    n, m = len(ref), len(cur)
    if not numeric:
        a, b = frequencies(ref, cur)
        return {"js": float(jensenshannon(a, b, base=2)) ** 2, "l_infinity": float(np.abs(a / n - b / m).max())}
    sides = []
    for s in (ref.to_numpy(np.float64), cur.to_numpy(np.float64)):
        edges = np.linspace(s.min(), s.max(), 11)
        sides.append((edges, np.histogram(s, edges)[0] / len(s)) if edges[0] < edges[-1] else (edges[:2], np.array([1.0])))
    cuts = sorted({x for edges, _ in sides for x in edges if edges[0] < edges[-1]})
    points = sorted({edges[0] for edges, _ in sides if edges[0] == edges[-1]})
    rows = []
    for edges, p in sides:
        is_point = edges[0] == edges[-1]
        # The share below a cut, values spread evenly inside a bucket.
        below = np.zeros(len(cuts)) if is_point else np.interp(cuts, edges, np.concatenate([[0], np.cumsum(p)]))
        rows.append(np.concatenate([np.diff(below), [float(is_point and edges[0] == x) for x in points]]))
    return {"js": float(jensenshannon(*rows, base=2)) ** 2}


def near(found, wanted, what, absolute):
    if not abs(found - wanted) <= max(1e-9 * abs(wanted), absolute):
        sys.exit(f"{what}: driftsweep {found!r}, reference {wanted!r}")


def available(tool):
    try:
        __import__(tool)
        return True
    except ImportError:
        return False


def record(conventions):
    folder = pathlib.Path(__file__).parent
    path = folder / "conventions.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    flights = folder.parent.parent / "datasets/nycflights13"
    a, b = (pd.read_parquet(flights / f"flights-2013-{month}.parquet") for month in ("01", "07"))
    for convention in conventions:
        figures = known[convention.__name__] = {}
        for column in ("dep_delay", "distance", "hour", "flight", "carrier", "origin", "tailnum"):
            ref, cur = (side[column].dropna().reset_index(drop=True) for side in (a, b))
            figures[column] = convention(ref, cur, ref.dtype.kind in "fi")
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def main(binary):
    conventions = [tfdv, azureml] + [f for f in (evidently, nannyml, deepchecks) if available(f.__name__)]
    if binary == "--record":
        return record(conventions)
    checked = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed, (n, m, shift) in enumerate([(50, 60, 0.5), (1200, 1100, 0.0), (1500, 900, 0.3), (20000, 15000, 0.05), (70000, 50000, 1.0)]):
            rng = np.random.default_rng(seed)
            a, b = columns(rng, n, 0.0), columns(rng, m, shift)
            paths = [f"{folder}/a.parquet", f"{folder}/b.parquet"]
            a.to_parquet(paths[0], row_group_size=7000), b.to_parquet(paths[1], row_group_size=1000)
            for convention in conventions:
                name = convention.__name__
                out = subprocess.run([binary, "compare", *paths, "--convention", name, "--format", "json"], capture_output=True, text=True)
                assert out.returncode in (0, 11), out.stderr
                for feature in json.loads(out.stdout)["features"]:
                    column, found = feature["name"], feature["metrics"]["convention"]
                    numeric = feature["kind"] == "numeric"
                    wanted = convention(a[column].dropna().reset_index(drop=True), b[column].dropna().reset_index(drop=True), numeric)
                    if wanted.get("decides"):
                        assert found["decides"] == wanted["decides"], (name, column, found, wanted)
                    for figure in wanted.keys() - {"decides"}:
                        # A distance is the square root of what rounding leaves; NannyML's leftover share rounds too.
                        absolute = 1e-7 if figure in ("js", "hellinger") else 1e-11
                        # pandas takes the standard deviation of 32-bit floats in 32 bits.
                        absolute = max(absolute, 1e-6 if column == "normal_f32" and figure == "wasserstein" else 0)
                        near(found[figure], wanted[figure], f"{name} {n}/{m} {column} {figure}", absolute)
                        checked[name] = checked.get(name, 0) + 1
    print(", ".join(f"{tool}: {count} figures agree" for tool, count in checked.items()))


main(*sys.argv[1:])
