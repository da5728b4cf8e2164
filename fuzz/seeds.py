"""Writes small seeds of every encoding: python fuzz/seeds.py FOLDER (pyarrow, pandas, numpy, polars).

Few rows and few columns a file, since a target reads each file several times.
"""
import datetime, decimal, glob, os, shutil, sys
import numpy as np, pandas as pd, polars as pl
import pyarrow as pa, pyarrow.csv as csv, pyarrow.feather as feather, pyarrow.ipc as ipc, pyarrow.parquet as pq

target = sys.argv[1]
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
for name in ("parquet", "ipc", "csv"):
    os.makedirs(os.path.join(target, name), exist_ok=True)
rng = np.random.default_rng(11)
n = 24
mask = rng.random(n) < 0.2


def path(folder, name):
    return os.path.join(target, folder, name)


words = rng.choice(["", "north", "south", "a rather long word of the east", "ä€😀"], n)
columns = {
    "i8": pa.array(rng.integers(-100, 100, n), pa.int8()), "i16": pa.array(rng.integers(-9, 9, n), pa.int16(), mask=mask),
    "i32": pa.array(rng.integers(-10**6, 10**6, n), pa.int32(), mask=mask), "i64": pa.array(rng.integers(-10**12, 10**12, n)),
    "u8": pa.array(rng.integers(0, 255, n), pa.uint8()), "u16": pa.array(rng.integers(0, 9, n), pa.uint16()),
    "u32": pa.array(rng.integers(0, 2**32, n), pa.uint32()), "u64": pa.array(rng.integers(0, 2**63, n).astype("u8") * 2, pa.uint64()),
    "f16": pa.array(rng.normal(size=n).astype("f2"), pa.float16()), "f32": pa.array(rng.normal(size=n).astype("f4"), mask=mask),
    "f64": pa.array(np.where(mask, np.nan, rng.normal(size=n))), "bool": pa.array(rng.random(n) < 0.5, mask=mask),
    "text": pa.array(words, mask=mask), "large": pa.array(words, pa.large_string()), "view": pa.array(list(words), pa.string_view()),
    "bytes": pa.array([w.encode() for w in words], pa.binary()), "fixed": pa.array([b"abcd"] * n, pa.binary(4)),
    "cat": pa.array(words, mask=mask).dictionary_encode(), "catint": pa.array(rng.integers(0, 4, n)).dictionary_encode(),
    "date": pa.array([datetime.date(2026, 1, 1 + i % 28) for i in range(n)]), "time": pa.array([i * 1000 for i in range(n)], pa.time64("us")),
    "stamp": pa.array([i * 10**9 for i in range(n)], pa.timestamp("us", "UTC")), "nano": pa.array([i for i in range(n)], pa.timestamp("ns")),
    "span": pa.array(list(range(n)), pa.duration("ms")), "dec9": pa.array([decimal.Decimal(i) / 100 for i in range(n)], pa.decimal128(9, 2)),
    "dec30": pa.array([decimal.Decimal(i) for i in range(n)], pa.decimal128(30, 2)), "null": pa.nulls(n),
    "list": pa.array([[1, 2], None, []] * (n // 3)), "struct": pa.array([{"a": 1, "b": "x"}, None] * (n // 2)),
}
all_of_them = pa.table(columns)


def parquet(name, table, **how):
    try:
        pq.write_table(table, path("parquet", name + ".parquet"), **how)
    except Exception as error:  # Not every type has every encoding.
        print(name, error)


storable = [name for name in columns if name not in ("view", "f16")]
encodings = {"i32": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"], "i64": ["DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
             "f32": ["BYTE_STREAM_SPLIT"], "f64": ["PLAIN", "BYTE_STREAM_SPLIT"], "bool": ["PLAIN", "RLE"],
             "text": ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"], "bytes": ["DELTA_BYTE_ARRAY"],
             "fixed": ["PLAIN", "BYTE_STREAM_SPLIT", "DELTA_BYTE_ARRAY"], "dec30": ["PLAIN"], "u64": ["DELTA_BINARY_PACKED"]}
for name in storable:
    one = all_of_them.select([name])
    parquet(f"{name}-dictionary", one, compression="none", use_dictionary=True, write_statistics=False)
    for encoding in encodings.get(name, []):
        for version in ("1.0", "2.0"):
            parquet(f"{name}-{encoding.lower()}-v{version[0]}", one, compression="none", use_dictionary=False, column_encoding={name: encoding},
                    data_page_version=version, write_statistics=False)
mixed = all_of_them.select(["i32", "f64", "text", "bool", "cat"])
for codec in ("snappy", "gzip", "brotli", "zstd", "lz4"):
    for version in ("1.0", "2.0"):
        parquet(f"mixed-{codec}-v{version[0]}", mixed, compression=codec, data_page_version=version, write_page_checksum=True, row_group_size=13)
parquet("mixed-pages", mixed, compression="none", data_page_size=16, write_batch_size=5, write_page_index=True, write_page_checksum=True)
parquet("int96", all_of_them.select(["nano"]), use_deprecated_int96_timestamps=True)
parquet("no-rows", mixed.slice(0, 0))
parquet("no-columns", pa.table({}))
pl.from_arrow(mixed).write_parquet(path("parquet", "polars.parquet"), compression="lz4", row_group_size=10)
mixed.to_pandas().to_parquet(path("parquet", "pandas.parquet"))

for name in columns:
    one = all_of_them.select([name])
    feather.write_feather(one, path("ipc", name + ".arrow"), compression="uncompressed")
for codec in ("lz4", "zstd"):
    for name in ("i32", "text", "cat", "bool", "view"):
        feather.write_feather(all_of_them.select([name]), path("ipc", f"{name}-{codec}.arrow"), compression=codec, chunksize=13)
feather.write_feather(mixed, path("ipc", "mixed.arrow"), compression="uncompressed", chunksize=10)
feather.write_feather(mixed, path("ipc", "mixed-lz4.arrow"), compression="lz4", chunksize=10)
with ipc.new_file(path("ipc", "deltas.arrow"), pa.schema([("c", pa.dictionary(pa.int32(), pa.string()))]),
                  options=ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as writer:
    for values in (["a", "b"], ["a", "b", "c"]):
        writer.write_batch(pa.record_batch([pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(values))], names=["c"]))
with ipc.new_stream(path("ipc", "stream.arrow"), mixed.schema) as writer:
    writer.write_table(mixed)
pl.from_arrow(mixed).write_ipc(path("ipc", "polars.arrow"), compression="uncompressed")
feather.write_feather(mixed.select(["i32", "f64"]).to_pandas(), path("ipc", "v1.arrow"), version=1)

texts = {
    "plain": "a,b,c\n1,2.5,x\n2,,y\n3,1e5,\n", "semicolon": "a;b;c\n1;2,5;x\n2;;y\n", "tab": "a\tb\n1\tx\n2\ty\n", "pipe": "a|b\n1|2\n",
    "quoted": 'a,b\n"1","x, ""y"""\n"2","line\nbreak"\n', "bom": "\ufeffa,b\n1,2\n", "crlf": "a,b\r\n1,2\r\n3,4\r\n", "cr": "a,b\r1,2\r",
    "na": "a,b\nNA,NULL\n1,nan\n,-\n", "bool": "a,b\ntrue,TRUE\nfalse,False\n", "big": "a,b\n9223372036854775807,18446744073709551615\n-9223372036854775808,0\n",
    "float": "a\n1e308\n-inf\nInfinity\n0x10\n1_000\n+1\n.5\n5.\n", "ragged": "a,b\n1\n1,2,3\n", "dates": "a,b\n2026-01-01,2026-01-01T00:00:00Z\n",
    "header": "a,a,\n1,2,3\n", "empty": "\n", "blank": "a,b\n\n1,2\n\n", "unclosed": 'a,b\n"1,2\n', "widen": "a,b\n1,1\n2,2\n2.5,x\n", "zeros": "a\n007\n-0\n00\n",
}
for name, text in texts.items():
    with open(path("csv", name + ".csv"), "w", newline="") as file:
        file.write(text)
with open(path("csv", "utf16.csv"), "wb") as file:
    file.write("a,b\n1,x\n".encode("utf-16"))
csv.write_csv(all_of_them.select(["i32", "f64", "text", "bool"]), path("csv", "arrow.csv"))

for folder, ends in (("parquet", "parquet"), ("ipc", "arrow"), ("csv", "csv")):
    for found in glob.glob(os.path.join(root, "tests/damage/**/*." + ends), recursive=True) + glob.glob(os.path.join(root, "tests/field/**/*." + ends), recursive=True):
        if os.path.getsize(found) < 20_000:
            shutil.copy(found, path(folder, os.path.relpath(found, root).replace("/", "-")))
