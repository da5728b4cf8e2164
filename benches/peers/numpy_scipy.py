"""PSI, KS and JS with numpy and scipy, the loop one writes by hand, on as many threads as there are cores.

numpy and scipy let go of the interpreter lock while they sort, so threads help and share memory.
"""
import time

start = time.perf_counter()
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

print("imports_s", time.perf_counter() - start)


def psi(ref, cur):
    edges = np.percentile(ref, np.linspace(0, 100, 11))
    edges[0], edges[-1] = -np.inf, np.inf
    e, a = (np.histogram(x, edges)[0] / len(x) for x in (ref, cur))
    e, a = np.where(e == 0, 1e-10, e), np.where(a == 0, 1e-10, a)
    return float(np.sum((a - e) * np.log(a / e)))


def js(ref, cur):
    r, c = (dict(zip(*(x.to_pylist() for x in pc.value_counts(side).flatten()))) for side in (ref, cur))
    names = r.keys() | c.keys()
    return float(jensenshannon([r.get(n, 0) / len(ref) for n in names], [c.get(n, 0) / len(cur) for n in names]))


def feature(name):
    ref, cur = (pq.read_table(path, columns=[name], use_threads=False)[name].combine_chunks().drop_null() for path in sys.argv[1:3])
    if pa.types.is_string(ref.type):
        return {"js": js(ref, cur)}
    ref, cur = (side.to_numpy(zero_copy_only=False).astype(np.float64, copy=False) for side in (ref, cur))
    ks = ks_2samp(ref, cur)
    return {"psi": psi(ref, cur), "ks": float(ks.statistic), "ks_p": float(ks.pvalue)}


names = pq.read_schema(sys.argv[1]).names
with ThreadPoolExecutor(os.cpu_count()) as pool:
    result = dict(zip(names, pool.map(feature, names)))
with open(sys.argv[3], "w", encoding="utf-8") as f:
    json.dump(result, f)
