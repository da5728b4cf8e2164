"""Alibi Detect: KSDrift for each numeric column and ChiSquareDrift for each text column (TabularDrift runs the same two
tests, but wants one array without missing values). Columns are spread over threads: scipy lets go of the interpreter lock.
"""
import time

start = time.perf_counter()
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from alibi_detect.cd import ChiSquareDrift, KSDrift

print("imports_s", time.perf_counter() - start)


def feature(name):
    ref, cur = (pd.read_parquet(path, columns=[name])[name].dropna() for path in sys.argv[1:3])
    if ref.dtype == object:
        codes, _ = pd.factorize(pd.concat([ref, cur]))  # its categories are integers
        ref, cur = codes[:len(ref), None], codes[len(ref):, None]
        detector, key = ChiSquareDrift(ref), "chi2"
    else:
        ref, cur = (side.to_numpy(np.float64)[:, None] for side in (ref, cur))
        detector, key = KSDrift(ref), "ks"
    data = detector.predict(cur, drift_type="feature", return_p_val=True, return_distance=True)["data"]
    return {key: float(data["distance"][0])}


names = pq.read_schema(sys.argv[1]).names
with ThreadPoolExecutor(os.cpu_count()) as pool:
    result = dict(zip(names, pool.map(feature, names)))
with open(sys.argv[3], "w", encoding="utf-8") as f:
    json.dump(result, f)
