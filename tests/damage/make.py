"""Makes the files that tests/it/damage.rs damages. Run once: python tests/damage/make.py (pyarrow 17 or later).

Every file holds the same 300 rows in two row groups. `pages.json` says of each Parquet file where its page headers, its
pages and its footer are, as [from, to) in bytes.
"""
import json, os
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, pyarrow.feather as feather, pyarrow.csv as csv

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(7)
n = 300
missing = rng.random(n) < 0.1
text = np.array([f"{w}-{i % 23:03d}" for i, w in enumerate(rng.choice(["north", "south", "a rather long word of the east"], n))])
table = pa.table({
    "whole": pa.array(rng.integers(0, 1000, n), pa.int32(), mask=missing),
    "wide": pa.array(rng.integers(-10**12, 10**12, n), pa.int64()),
    "share": pa.array(rng.normal(size=n), pa.float64(), mask=missing[::-1]),
    "single": pa.array(rng.normal(size=n).astype("f4"), pa.float32()),
    "text": pa.array(text, pa.string(), mask=missing),
    "plan": pa.array(rng.choice(["basic", "pro", "team"], n), pa.string()),
    "flag": pa.array(rng.random(n) < 0.3, pa.bool_()),
})
delta = {"whole": "DELTA_BINARY_PACKED", "wide": "DELTA_BINARY_PACKED", "share": "BYTE_STREAM_SPLIT", "single": "PLAIN",
         "text": "DELTA_BYTE_ARRAY", "plan": "DELTA_LENGTH_BYTE_ARRAY", "flag": "RLE"}
kinds = [  # codec, version of the pages, encoding
    ("snappy", "1.0", "dictionary"), ("zstd", "2.0", "dictionary"), ("none", "1.0", "plain"), ("none", "2.0", "delta"),
    ("zstd", "1.0", "delta"), ("gzip", "1.0", "plain"), ("lz4", "2.0", "plain"), ("brotli", "1.0", "dictionary")]


def varint(b, at):
    value = shift = 0
    while True:
        value |= (b[at] & 127) << shift
        shift += 7
        at += 1
        if b[at - 1] < 128:
            return value, at


def page(b, at):
    """Where a page header ends, and how long its page is: the third field of the struct."""
    size, field, depth = None, 0, []
    while True:
        head = b[at]
        at += 1
        if head & 15 == 0:
            if not depth:
                return at, size
            field = depth.pop()
            continue
        assert head >> 4
        field += head >> 4
        kind = head & 15
        if kind in (4, 5, 6):
            value, at = varint(b, at)
            if field == 3 and not depth:
                size = (value >> 1) ^ -(value & 1)
        elif kind == 8:
            length, at = varint(b, at)
            at += length
        elif kind == 12:
            depth.append(field)
            field = 0
        else:
            assert kind in (1, 2), kind


where = {}
for codec, version, encoding in kinds:
    for checksums in (True, False):
        name = f"{codec}-v{version[0]}-{encoding}{'-checksums' if checksums else ''}.parquet"
        path = os.path.join(here, name)
        how = {} if encoding != "delta" else {"column_encoding": delta}
        pq.write_table(table, path, row_group_size=170, compression=codec, data_page_version=version,
                       use_dictionary=encoding == "dictionary", write_page_checksum=checksums, data_page_size=600,
                       write_batch_size=64, **how)
        b = open(path, "rb").read()
        footer = len(b) - 8 - int.from_bytes(b[-8:-4], "little")
        headers, pages = [], []
        meta = pq.ParquetFile(path).metadata
        for g in range(meta.num_row_groups):
            for c in range(meta.num_columns):
                column = meta.row_group(g).column(c)
                at = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
                end = at + column.total_compressed_size
                while at < end:
                    start, size = page(b, at)
                    headers.append([at, start])
                    pages.append([start, start + size])
                    at = start + size
                assert at == end
        where[name] = {"headers": headers, "pages": pages, "footer": [footer, len(b) - 8]}
for codec in ("uncompressed", "lz4", "zstd"):
    coded = table.set_column(5, "plan", table["plan"].dictionary_encode())
    feather.write_feather(coded, os.path.join(here, f"{codec}.arrow"), compression=codec, chunksize=170)
csv.write_csv(table, os.path.join(here, "plain.csv"))
json.dump(where, open(os.path.join(here, "pages.json"), "w"), separators=(",", ":"))
