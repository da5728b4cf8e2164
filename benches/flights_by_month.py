"""The model of datasets/flights.toml, trained monthly: its AUC by month beside scikit-learn's on the same features.

python3 benches/flights_by_month.py DRIFTSWEEP datasets/flights.toml

Needs numpy, pyarrow and scikit-learn. Each month from April to December is predicted by three models: one that is never trained again
(90 days up to March), one of the 90 days before the month, and one of all days before it. scikit-learn's HistGradientBoostingClassifier
learns from the files that driftsweep wrote, with its defaults.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score


def train(driftsweep, fleet, folder, month, training, champion=None):
    begins = datetime.date(2013, month, 1)
    ends = datetime.date(2013 + month // 12, month % 12 + 1, 1)
    text = open(fleet).read().replace("nycflights13/", os.path.abspath(os.path.join(os.path.dirname(fleet), "nycflights13")) + "/")
    text = text.replace('training = "90d"', f'training = "{training}"').replace('validation = "7d"', f'validation = "{(ends - begins).days}d"')
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/fleet.toml", "w") as file:
        file.write(text)
    # Labels are known two days after the prediction.
    now = f"{ends + datetime.timedelta(days=2)}T00:00:00Z"
    command = [driftsweep, "train", f"{folder}/fleet.toml", "--model", "lateness", "--now", now, "--output", folder, "--quiet"]
    command += ["--champion", champion] if champion else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.load(open(f"{folder}/model.json"))["metrics"]


def theirs(folder):
    sets = [pq.read_table(f"{folder}/{name}.parquet") for name in ("training", "validation")]
    sets = [table.filter(table["label"].is_valid()) for table in sets]
    names = [name for name in sets[0].column_names if name not in ("row_id", "id", "prediction_time", "label")]
    categories = {name: {value: i for i, value in enumerate(sorted(set(sets[0][name].to_pylist())))}
                  for name in names if str(sets[0].schema.field(name).type) == "string"}

    def matrix(table):
        columns = [[categories[name].get(x, np.nan) for x in table[name].to_pylist()] if name in categories
                   else table[name].to_numpy().astype(float) for name in names]
        return np.column_stack(columns)

    model = HistGradientBoostingClassifier(categorical_features=[name in categories for name in names], random_state=0)
    model.fit(matrix(sets[0]), sets[0]["label"].to_numpy())
    return roc_auc_score(sets[1]["label"].to_numpy(), model.predict_proba(matrix(sets[1]))[:, 1])


def main(driftsweep, fleet):
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        print("month      never  90 days  scikit-learn  expanding  scikit-learn  accuracy  majority class")
        for month in range(4, 13):
            first = f"{folder}/90d-4"
            rolling, expanding = f"{folder}/90d-{month}", f"{folder}/expanding-{month}"
            own = train(driftsweep, fleet, rolling, month, "90d", None if month == 4 else first)
            all_days = train(driftsweep, fleet, expanding, month, "expanding")
            scores = pq.read_table(f"{rolling}/{'candidate' if month == 4 else 'champion'}.parquet")
            labels = pq.read_table(f"{rolling}/labels.parquet")["label"].to_numpy()
            never = roc_auc_score(labels, scores["score"].to_numpy())
            row = [never, own["auc"], theirs(rolling), all_days["auc"], theirs(expanding), own["accuracy"], 1 - labels.mean()]
            rows.append(row)
            print(f"2013-{month:02} ", "".join(f"{x:9.3f}" for x in row), flush=True)
        print("mean    ", "".join(f"{x:9.3f}" for x in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main(*sys.argv[1:])
