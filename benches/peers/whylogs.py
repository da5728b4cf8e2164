"""whylogs: a profile of each side, then drift scores from the profiles (KS for numbers, chi-square for strings).

The schema keeps only what the scores read, which is faster than the standard one: the distribution of numbers, and
counts, cardinality and frequent items of strings.
"""
import time

start = time.perf_counter()
import json
import os
import sys

os.environ["WHYLOGS_NO_ANALYTICS"] = "True"  # nothing is sent anywhere, and no time is spent on it

import pandas as pd
import whylogs as why
from whylogs.core.datatypes import Fractional, Integral, String
from whylogs.core.metrics import StandardMetric
from whylogs.core.resolvers import MetricSpec, ResolverSpec
from whylogs.core.schema import DeclarativeSchema
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

print("imports_s", time.perf_counter() - start)

number = [MetricSpec(StandardMetric.counts.value), MetricSpec(StandardMetric.distribution.value)]
string = [MetricSpec(m.value) for m in (StandardMetric.counts, StandardMetric.cardinality, StandardMetric.frequent_items)]
schema = lambda: DeclarativeSchema([ResolverSpec(column_type=Integral, metrics=number), ResolverSpec(column_type=Fractional, metrics=number),
                                    ResolverSpec(column_type=String, metrics=string)])
ref, cur = (why.log(pd.read_parquet(path), schema=schema()).view() for path in sys.argv[1:3])
result = {}
for name, score in calculate_drift_scores(target_view=cur, reference_view=ref).items():
    if score is not None:
        key = "ks" if score["algorithm"] == "ks" else "chi2_own"
        result[name] = {key: float(score["statistic"])}
with open(sys.argv[3], "w", encoding="utf-8") as f:
    json.dump(result, f)
