"""Makes the snapshots and the figures that every tool is checked against: data.py FOLDER ROWSxCOLUMNS ...

run.py calls this in the numpy_scipy environment. The definitions are those of datasets/make_reference.py.
"""
import json
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import stats
from scipy.spatial.distance import jensenshannon

CATEGORIES = [10, 30, 100, 300, 1000]


def numeric(rng, rows, kind, drifted):
    if kind == 0:
        return rng.normal(10 + 0.1 * drifted, 2, rows)
    if kind == 1:
        return rng.lognormal(0.1 * drifted, 1, rows)
    if kind == 2:
        return rng.normal(0.1 * drifted, 1, rows).astype(np.float32)
    if kind == 3:
        return rng.integers(0, 2000 + 200 * drifted, rows)
    return np.round(rng.gamma(2, 50 + 5 * drifted, rows), 1)  # ties


def text(rng, rows, categories, drifted):
    weights = 1 / (np.arange(categories) + 10) ** (0.5 + 0.2 * drifted)
    codes = rng.choice(categories, rows, p=weights / weights.sum())
    # Every category occurs on both sides: tools treat one that is missing on a side differently, which is not the question here.
    codes[:categories] = np.arange(categories)
    labels = pa.array([f"category {i:04}" for i in range(categories)])
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), labels).cast(pa.string())


def make(path, rows, columns, side):
    """Every fifth column is text; every third numeric one is about 2 % null; every seventh column drifts on side 1."""
    table, numbers = {}, 0
    for j in range(columns):
        rng = np.random.default_rng([rows, j, side])
        drifted = side * (j % 7 == 0)
        if j % 5 == 4:
            table[f"f{j:03}"] = text(rng, rows, CATEGORIES[j // 5 % 5], drifted)
        else:
            values = numeric(rng, rows, numbers % 5, drifted)
            table[f"f{j:03}"] = pa.array(values, mask=rng.random(rows) < 0.02 if numbers % 3 == 0 else None)
            numbers += 1
    # Small row groups give all tools something to share between cores.
    pq.write_table(pa.table(table), path + ".part", compression="zstd", row_group_size=131_072)
    os.rename(path + ".part", path)


def psi(ref, cur):
    edges = np.percentile(ref, np.linspace(0, 100, 11))
    edges[0], edges[-1] = -np.inf, np.inf
    e, a = (np.histogram(x, edges)[0] / len(x) for x in (ref, cur))
    e, a = np.where(e == 0, 1e-10, e), np.where(a == 0, 1e-10, a)
    return float(np.sum((a - e) * np.log(a / e)))


def figures(ref, cur):
    """Of two columns without their nulls."""
    if pa.types.is_string(ref.type):
        r, c = (dict(zip(*(column.to_pylist() for column in pc.value_counts(side).flatten()))) for side in (ref, cur))
        r, c = (np.array([counts.get(name, 0) for name in sorted(r.keys() | c.keys())]) for counts in (r, c))
        return {"js": float(jensenshannon(r / r.sum(), c / c.sum())), "chi2": float(stats.chi2_contingency([r, c]).statistic)}
    r, c = (side.to_numpy(zero_copy_only=False).astype(np.float64) for side in (ref, cur))
    ks = stats.ks_2samp(r, c)
    return {"psi": psi(r, c), "ks": float(ks.statistic), "ks_p": float(ks.pvalue), "wasserstein": float(stats.wasserstein_distance(r, c))}


def main(folder, *cases):
    for case in cases:
        rows, columns = map(int, case.split("x"))
        paths = [os.path.join(folder, f"{case}-{side}.parquet") for side in ("ref", "cur")]
        for side, path in enumerate(paths):
            if not os.path.exists(path):
                make(path, rows, columns, side)
        expected = os.path.join(folder, f"{case}-expected.json")
        if not os.path.exists(expected):
            result = {}
            for name in pq.read_schema(paths[0]).names:
                ref, cur = (pq.read_table(path, columns=[name])[name].combine_chunks().drop_null() for path in paths)
                result[name] = figures(ref, cur)
            with open(expected + ".part", "w", encoding="utf-8") as f:
                json.dump(result, f, indent=1)
            os.rename(expected + ".part", expected)


main(*sys.argv[1:])
