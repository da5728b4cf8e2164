"""NannyML's univariate drift calculator: KS and JS for numbers, JS for categories, each side as one chunk.

Its defaults are its fast settings: from 10,000 reference values on, KS comes from a histogram of 10,000 bins of equal width.
"""
import time

start = time.perf_counter()
import json
import math
import os
import sys
import warnings

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"  # nothing is sent anywhere, and no time is spent on it

import pandas as pd
from nannyml import UnivariateDriftCalculator

print("imports_s", time.perf_counter() - start)
warnings.simplefilter("ignore")

ref, cur = (pd.read_parquet(path) for path in sys.argv[1:3])
names = list(ref.columns)
calculator = UnivariateDriftCalculator(
    column_names=names, chunk_number=1,
    continuous_methods=["kolmogorov_smirnov", "jensen_shannon"], categorical_methods=["jensen_shannon"])
drift = calculator.fit(ref).calculate(cur).filter(period="analysis")

result = {}
for name in names:
    value = lambda method: float(drift.data[(name, method, "value")].iloc[0])
    if name in drift.continuous_column_names:
        result[name] = {"ks": value("kolmogorov_smirnov"), "js_own": value("jensen_shannon")}
    else:
        # Its logarithm has base 2.
        result[name] = {"js": value("jensen_shannon") * math.sqrt(math.log(2))}
with open(sys.argv[3], "w", encoding="utf-8") as f:
    json.dump(result, f)
