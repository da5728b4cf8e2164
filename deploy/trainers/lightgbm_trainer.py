"""A trainer for driftsweep with LightGBM: fit and predict in one program.

[[model]]
trainer_command = { fit = ["python3", "lightgbm_trainer.py", "fit"], predict = ["python3", "lightgbm_trainer.py", "predict"] }

Needs lightgbm, pandas and pyarrow. The contract is in docs/trainers.md.
"""

import json
import os
import sys

import lightgbm
import pandas as pd

# What is no feature: the columns of the row, and the label.
OTHER = ["row_id", "id", "prediction_time", "label"]


def features(table, categories):
    """The features; texts are categories, in the order that was learned."""
    features = table.drop(columns=[name for name in OTHER if name in table.columns])
    for name, values in categories.items():
        features[name] = pd.Categorical(features[name], categories=values)
    return features


def fit():
    table = pd.read_parquet(os.environ["DRIFTSWEEP_TRAINING"])
    table = table[table["label"].notna()]
    texts = [name for name in table.columns if name not in OTHER and not pd.api.types.is_numeric_dtype(table[name])]
    categories = {name: sorted(table[name].dropna().unique()) for name in texts}
    settings = {"objective": "binary", "verbose": -1, "seed": 0, "deterministic": True}
    settings["num_threads"] = int(os.environ.get("DRIFTSWEEP_THREADS", 1))
    model = lightgbm.train(settings, lightgbm.Dataset(features(table, categories), table["label"]), num_boost_round=100)
    folder = os.environ["DRIFTSWEEP_MODEL_FOLDER"]
    model.save_model(os.path.join(folder, "model.txt"))
    with open(os.path.join(folder, "categories.json"), "w") as file:
        json.dump(categories, file)


def predict():
    folder = os.environ["DRIFTSWEEP_MODEL_FOLDER"]
    model = lightgbm.Booster(model_file=os.path.join(folder, "model.txt"))
    with open(os.path.join(folder, "categories.json")) as file:
        categories = json.load(file)
    table = pd.read_parquet(os.environ["DRIFTSWEEP_ROWS"])
    scores = model.predict(features(table, categories))
    pd.DataFrame({"row_id": table["row_id"], "score": scores}).to_parquet(os.environ["DRIFTSWEEP_SCORES"], index=False)


if __name__ == "__main__":
    {"fit": fit, "predict": predict}[sys.argv[1]]()
