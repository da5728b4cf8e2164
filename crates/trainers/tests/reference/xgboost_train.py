"""Trains xgboost with the settings of a batch model on rows, and predicts them."""
import json
import pathlib
import sys

import numpy as np
import xgboost

given = json.loads((pathlib.Path(sys.argv[1]) / "input.json").read_text())
values, types = [], []
for column in given["columns"].values():
    names = sorted({v for v in column if isinstance(v, str)})
    types.append("c" if names else "float")
    values.append([np.nan if v is None else float(names.index(v)) if names else v for v in column])
matrix = xgboost.DMatrix(
    np.array(values, dtype=np.float32).T, label=given["target"], feature_types=types, enable_categorical=True
)
objective = {"binary": "binary:logistic", "regression": "reg:squarederror"}[given["objective"]]
params = {"objective": objective, "eta": 0.1, "max_depth": 6, "tree_method": "hist", "max_bin": 256}
booster = xgboost.train(params, matrix, given["rounds"])
print(json.dumps([float(p) for p in booster.predict(matrix)]))
