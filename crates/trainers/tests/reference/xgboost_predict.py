"""Loads the file of a batch model into xgboost, and predicts rows: the codes of categories are in the file's attribute."""
import json
import pathlib
import sys

import numpy as np
import xgboost

folder = pathlib.Path(sys.argv[1])
columns = json.loads((folder / "input.json").read_text())
booster = xgboost.Booster(model_file=str(folder / "model.json"))
header = json.loads(booster.attr("driftsweep"))["header"]
assert booster.feature_names == list(header["columns"]), booster.feature_names


def number(name, value):
    if name in header["categories"]:
        known = header["categories"][name]
        return float(known.index(value)) if value in known else float("nan")
    return float("nan") if value is None else value


data = np.array([[number(n, v) for v in columns[n]] for n in header["columns"]], dtype=np.float32).T
matrix = xgboost.DMatrix(
    data, feature_names=booster.feature_names, feature_types=booster.feature_types, enable_categorical=True
)
print(json.dumps([float(p) for p in booster.predict(matrix)]))
