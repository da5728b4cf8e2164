"""Point-in-time lookups beside DuckDB's ASOF join: the same rows, the time and the memory of both.

python3 benches/point_in_time.py DRIFTSWEEP [--rows 1000000] [--events 10000000] [--memory 1GiB]
python3 benches/point_in_time.py DRIFTSWEEP --flights datasets/flights.toml

Needs numpy, pyarrow and duckdb. Both programs read the same Parquet files and write Parquet, each in a process of its own with the same
number of threads and the same memory limit. The features are compared row by row: they must be equal.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FLEET = """
[event_table.events]
path = "events.parquet"
event_time = "event_time"
delay = "1h"

[feature_set.asof]
training = "expanding"
validation = "1d"

[feature_set.asof.spine]
path = "spine.parquet"
id = "id"
time = "at"
columns = ["key"]

[feature_set.asof.latest.events]
on = ["key"]
columns = ["a", "b", "c"]

[[model]]
name = "m"
baseline = "spine.parquet"
current = "spine.parquet"
"""


def write_data(folder, rows, events):
    random = np.random.default_rng(1)
    keys = max(events // 100, 1)
    start, span = 1_700_000_000_000_000, 90 * 86_400_000_000

    def times(n):
        # No two times are equal, so that both programs mean the same row.
        return pa.array(start + random.permutation(n) * (span // n), pa.timestamp("us", "UTC"))

    # 100 events a key on average, and few keys with many.
    key = (keys * random.random(events) ** 2).astype(np.int64)
    table = pa.table(
        {
            "key": key,
            "event_time": times(events),
            "a": random.standard_normal(events),
            "b": random.integers(0, 1000, events),
            "c": pa.array(random.standard_normal(events), mask=random.random(events) < 0.1),
        }
    )
    pq.write_table(table, f"{folder}/events.parquet", row_group_size=1 << 20)
    key = (keys * random.random(rows) ** 2).astype(np.int64)
    table = pa.table({"id": np.arange(rows), "key": key, "at": times(rows)})
    pq.write_table(table, f"{folder}/spine.parquet", row_group_size=1 << 20)
    with open(f"{folder}/fleet.toml", "w") as file:
        file.write(FLEET)


def timed(command, environment=None):
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed: {status}")
    return time.monotonic() - began, usage.ru_maxrss / 1024


DUCKDB = """
import duckdb, sys
folder, memory, threads, to = sys.argv[1:]
db = duckdb.connect()
db.execute(f"SET memory_limit = '{memory}'; SET threads = {threads}; SET temp_directory = '{folder}/duckdb'; SET TimeZone = 'UTC'")
db.execute(f'''COPY (
    SELECT s.id, s."at", e.a, e.b, e.c
    FROM (SELECT * FROM '{folder}/spine.parquet' WHERE "at" < '{to}') s
    ASOF LEFT JOIN (SELECT *, event_time + INTERVAL 1 HOUR AS known_at FROM '{folder}/events.parquet') e
    ON s.key = e.key AND s."at" > e.known_at
    ORDER BY s."at"
) TO '{folder}/duckdb.parquet' (FORMAT parquet, COMPRESSION zstd)''')
"""


def generated(arguments):
    with tempfile.TemporaryDirectory() as folder:
        write_data(folder, arguments.rows, arguments.events)
        threads = str(arguments.threads)
        # The validation set is the last day: all before it is the training set.
        now = "2024-02-12T22:13:20Z"
        ours = [arguments.driftsweep, "features", "materialize", f"{folder}/fleet.toml", "--now", now]
        ours += ["--output", f"{folder}/set", "--memory", arguments.memory, "--threads", threads, "--scratch", folder, "--quiet"]
        seconds, mib = timed(ours)
        print(f"driftsweep: {seconds:.1f} s, {mib:.0f} MiB at most")
        manifest = json.load(open(f"{folder}/set/manifest.json"))
        to = manifest["validation"]["to"]
        theirs = [sys.executable, "-c", DUCKDB, folder, arguments.memory, threads, to]
        seconds, mib = timed(theirs)
        print(f"DuckDB {duckdb.__version__}: {seconds:.1f} s, {mib:.0f} MiB at most")
        tables = [pq.read_table(f"{folder}/set/{name}.parquet") for name in ("training", "validation")]
        compare(pa.concat_tables(tables), pq.read_table(f"{folder}/duckdb.parquet"), ["id", "a", "b", "c"])


def flights(arguments):
    """The weather of each flight, beside DuckDB on the same files."""
    with tempfile.TemporaryDirectory() as folder:
        ours = [arguments.driftsweep, "features", "materialize", arguments.flights, "--now", "2014-01-03T00:00:00Z"]
        timed(ours + ["--output", f"{folder}/set", "--quiet"])
        data = os.path.join(os.path.dirname(arguments.flights), "nycflights13")
        columns = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
        db = duckdb.connect()
        db.execute("SET TimeZone = 'UTC'")
        tables = [pq.read_table(f"{folder}/set/{name}.parquet") for name in ("training", "validation")]
        found = pa.concat_tables(tables)
        manifest = json.load(open(f"{folder}/set/manifest.json"))
        first, last = manifest["training"]["from"], manifest["validation"]["to"]
        expected = db.sql(
            f"""
            WITH s AS (
                SELECT concat_ws('/', carrier, flight, origin, strftime(time_hour, '%Y-%m-%dT%H:%M:%SZ')) AS id, origin,
                    time_hour + to_minutes(minute) - INTERVAL 1 HOUR AS at
                FROM '{data}/flights-2013-*.parquet'),
            w AS (SELECT *, time_hour AS event_time, time_hour + INTERVAL 1 HOUR AS known_at FROM '{data}/weather-2013-*.parquet')
            SELECT s.id, s."at", {", ".join(f"CASE WHEN w.event_time >= s.at - INTERVAL 6 HOUR THEN w.{c} END AS {c}" for c in columns)}
            FROM s ASOF LEFT JOIN w ON s.origin = w.origin AND s."at" > w.known_at
            WHERE s."at" >= '{first}' AND s."at" < '{last}'
            ORDER BY s."at", s.id
            """
        ).to_arrow_table()
        compare(found, expected, ["id", *columns])


def compare(ours, theirs, columns):
    if ours.num_rows != theirs.num_rows:
        sys.exit(f"{ours.num_rows} rows against {theirs.num_rows}")
    for name in columns:
        a, b = ours[name].combine_chunks(), theirs[name].combine_chunks()
        b = b.cast(a.type)
        if not a.equals(b):
            row = next(i for i in range(len(a)) if a[i] != b[i])
            sys.exit(f"{name} differs in row {row}: {a[row]} against {b[row]}")
    print(f"{ours.num_rows} rows are equal in {', '.join(columns)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("driftsweep")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--flights")
    arguments = parser.parse_args()
    flights(arguments) if arguments.flights else generated(arguments)
