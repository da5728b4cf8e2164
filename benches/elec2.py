"""The electricity prices of New South Wales (elec2) as tables for `driftsweep simulate`.

python3 benches/elec2.py ELEC.csv FOLDER

Needs pyarrow. ELEC.csv has 45,312 half hours from 7 May 1996 to 5 December 1998, in order, with seven columns: the half hour of the day as
a share, price and demand in New South Wales, the same in Victoria, the transfer between both, and whether the price is above its mean
of the last 24 hours. It is in PyPI's `scikit-multiflow` 0.4.1 (`skmultiflow/data/datasets/elec.csv` of the wheel) and in the repository
scikit-multiflow/streaming-datasets; no licence of the data is known, so that it is no part of this repository.

FOLDER gets elec2.parquet and fleet.toml. The copies have no dates; the half hours follow each other without a gap, which gives them.
The label of a half hour is known 29 minutes after its beginning: at the next prediction. Price and demand of the same half hour are
features, as in all published figures.
"""

import csv
import datetime
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ["period", "nsw_price", "nsw_demand", "vic_price", "vic_demand", "transfer"]
ROWS = 944 * 48
BEGIN = datetime.datetime(1996, 5, 7, tzinfo=datetime.timezone.utc)

FLEET = """\
name = "elec2"

[event_table.prices]
path = "elec2.parquet"
event_time = "at"
delay = "29m"
columns = { half_hour = "half_hour", up = "up" }

[feature_set.prices]
training = "90d"
validation = "14d"

[feature_set.prices.spine]
path = "elec2.parquet"
id = "half_hour"
time = "at"
columns = ["period", "day_of_week", "nsw_price", "nsw_demand", "vic_price", "vic_demand", "transfer"]

[feature_set.prices.label]
table = "prices"
on = { id = "half_hour" }
column = "up"
maturity = "29m"

[[model]]
name = "price-up"
baseline = "elec2.parquet"
current = "elec2.parquet"
feature_set = "prices"

[model.trigger]
schedule = "0 0 1 * *"
cooldown = "7d"

[model.trigger.performance]
level = 0.75

[model.trigger.drift]
share = 0.5

[model.trigger.volume]
labels = 1344
within = "30d"

[model.gates]
min_rows = 500
metrics = [{ metric = "accuracy", better_by = 0.0 }]

[defaults.thresholds]
min_rows = 300
"""


def main(source, folder):
    with open(source) as file:
        lines = list(csv.reader(file))[1:]
    if len(lines) != ROWS or any(len(line) != 7 for line in lines):
        sys.exit(f"{source}: {ROWS} rows of 7 columns were expected, and it has {len(lines)}")
    rows = [[float(x) for x in line] for line in lines]
    for i, row in enumerate(rows):
        if abs(row[0] - (i % 48) / 47) > 1e-5:
            sys.exit(f"{source}: row {i} is not half hour {i % 48} of its day; the rows must be in their first order")
    times = [BEGIN + datetime.timedelta(minutes=30 * i) for i in range(ROWS)]
    columns = {"half_hour": pa.array(range(ROWS), pa.int64()), "at": pa.array(times, pa.timestamp("ms", "UTC"))}
    columns |= {name: [row[i] for row in rows] for i, name in enumerate(NAMES)}
    columns["day_of_week"] = pa.array([time.weekday() for time in times], pa.int64())
    columns["up"] = [row[6] for row in rows]
    os.makedirs(folder, exist_ok=True)
    pq.write_table(pa.table(columns), os.path.join(folder, "elec2.parquet"), compression="zstd")
    with open(os.path.join(folder, "fleet.toml"), "w") as file:
        file.write(FLEET)


if __name__ == "__main__":
    main(*sys.argv[1:])
