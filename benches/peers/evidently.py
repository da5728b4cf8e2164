"""Evidently's report of value drift: PSI and the KS test for numbers, JS for categories. `default` as a fourth argument
asks for the data drift preset as it comes instead.

Named metrics are asked for column by column because the preset computes every column twice (once to count drifted columns).
"""
import time

start = time.perf_counter()
import json
import os
import sys

os.environ["DO_NOT_TRACK"] = "1"  # nothing is sent anywhere, and no time is spent on it

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import ValueDrift
from evidently.presets import DataDriftPreset

print("imports_s", time.perf_counter() - start)

ref, cur = (pd.read_parquet(path) for path in sys.argv[1:3])
text = [name for name in ref if ref[name].dtype == object]
numeric = [name for name in ref if name not in text]
# Stating the types spares it from guessing them.
definition = DataDefinition(numerical_columns=numeric, categorical_columns=text)
ref, cur = (Dataset.from_pandas(side, data_definition=definition) for side in (ref, cur))
if sys.argv[4:] == ["default"]:
    metrics = [DataDriftPreset(include_tests=False)]
else:
    metrics = [ValueDrift(column=name, method=method) for name in numeric for method in ("psi", "ks")]
    metrics += [ValueDrift(column=name, method="jensenshannon") for name in text]
run = Report(metrics, include_tests=False).run(current_data=cur, reference_data=ref)

# Its PSI has bins of equal width, its Wasserstein distance is divided by the standard deviation.
keys = {"psi": "psi_own", "ks": "ks_p", "K-S p_value": "ks_p", "jensenshannon": "js", "Jensen-Shannon distance": "js", "Wasserstein distance (normed)": "wasserstein_own"}
result = {}
for metric in run.dict()["metrics"]:
    config = metric["config"]
    if "column" in config:
        key = keys.get(config["method"], config["method"])
        result.setdefault(config["column"], {})[key] = float(metric["value"])
with open(sys.argv[3], "w", encoding="utf-8") as f:
    json.dump(result, f)
