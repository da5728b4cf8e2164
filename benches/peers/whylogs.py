"""whylogs: a profile of each side, then drift scores from the profiles (KS for numbers, chi-square for strings).

The schema keeps only what the scores read, which is faster than the standard one: the distribution of numbers, and
counts, cardinality and frequent items of strings. The sides are profiled in a process each; profiles are made to travel.
"""
import time

start = time.perf_counter()
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor

os.environ["WHYLOGS_NO_ANALYTICS"] = "True"  # nothing is sent anywhere, and no time is spent on it

import pandas as pd
import whylogs as why
from whylogs.core import DatasetProfileView
from whylogs.core.datatypes import Fractional, Integral, String
from whylogs.core.metrics import StandardMetric
from whylogs.core.resolvers import MetricSpec, ResolverSpec
from whylogs.core.schema import DeclarativeSchema
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

imports = time.perf_counter() - start


def profile(path):
    number = [MetricSpec(m.value) for m in (StandardMetric.counts, StandardMetric.distribution)]
    string = [MetricSpec(m.value) for m in (StandardMetric.counts, StandardMetric.cardinality, StandardMetric.frequent_items)]
    schema = DeclarativeSchema([ResolverSpec(column_type=kind, metrics=metrics)
                                for kind, metrics in ((Integral, number), (Fractional, number), (String, string))])
    return why.log(pd.read_parquet(path), schema=schema).view().serialize()


def main():
    print("imports_s", imports)
    with ProcessPoolExecutor(2) as pool:
        ref, cur = (DatasetProfileView.deserialize(view) for view in pool.map(profile, sys.argv[1:3]))
    result = {}
    for name, score in calculate_drift_scores(target_view=cur, reference_view=ref).items():
        if score is not None:
            result[name] = {"ks" if score["algorithm"] == "ks" else "chi2_own": float(score["statistic"])}
    with open(sys.argv[3], "w", encoding="utf-8") as f:
        json.dump(result, f)


if __name__ == "__main__":
    main()
