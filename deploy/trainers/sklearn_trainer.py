"""A trainer for driftsweep with scikit-learn: fit and predict in one program.

[[model]]
trainer_command = { fit = ["python3", "sklearn_trainer.py", "fit"], predict = ["python3", "sklearn_trainer.py", "predict"] }

Needs scikit-learn and pyarrow. The contract is in docs/trainers.md.
"""

import os
import pickle
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier

# What is no feature: the columns of the row, and the label.
OTHER = {"row_id", "id", "prediction_time", "label"}


def matrix(table, names, categories):
    """The features as numbers; a text is the place of its value among those that were learned."""
    columns = []
    for name in names:
        if name in categories:
            columns.append([categories[name].get(value, np.nan) for value in table[name].to_pylist()])
        else:
            columns.append(np.array([np.nan if x is None else x for x in table[name].to_pylist()], dtype=float))
    return np.column_stack(columns)


def fit():
    table = pq.read_table(os.environ["DRIFTSWEEP_TRAINING"])
    table = table.filter(table["label"].is_valid())
    names = [name for name in table.column_names if name not in OTHER]
    texts = [name for name in names if pa.types.is_string(table.schema.field(name).type)]
    categories = {}
    for name in texts:
        values = sorted({value for value in table[name].to_pylist() if value is not None})
        # At most 255 categories; the rest is missing.
        categories[name] = {value: i for i, value in enumerate(values[:255])}
    model = HistGradientBoostingClassifier(categorical_features=[name in categories for name in names], random_state=0)
    model.fit(matrix(table, names, categories), np.array(table["label"].to_pylist(), dtype=float))
    with open(os.path.join(os.environ["DRIFTSWEEP_MODEL_FOLDER"], "model.pickle"), "wb") as file:
        pickle.dump((names, categories, model), file)


def predict():
    with open(os.path.join(os.environ["DRIFTSWEEP_MODEL_FOLDER"], "model.pickle"), "rb") as file:
        names, categories, model = pickle.load(file)
    table = pq.read_table(os.environ["DRIFTSWEEP_ROWS"])
    scores = model.predict_proba(matrix(table, names, categories))[:, 1]
    pq.write_table(pa.table({"row_id": table["row_id"], "score": scores}), os.environ["DRIFTSWEEP_SCORES"])


if __name__ == "__main__":
    {"fit": fit, "predict": predict}[sys.argv[1]]()
