"""PSI, KS and JS in SQL: breakpoints by quantile_cont and all bin counts in one scan a side, KS by window functions over
the values of both sides, JS by grouped counts. DuckDB uses all cores by itself.

Of the ways tried for KS (grouping equal values first, an ASOF join of two distributions, one window over both) the last was the fastest.
"""
import time

start = time.perf_counter()
import json
import math
import sys

import duckdb

print("imports_s", time.perf_counter() - start)

con = duckdb.connect()
for side, path in zip(("ref", "cur"), sys.argv[1:3]):
    con.execute(f"create view {side} as select * from read_parquet('{path}')")
columns = con.execute("select column_name, column_type from (describe ref)").fetchall()
numeric = [name for name, kind in columns if kind != "VARCHAR"]

KS = """
with ordered as (
    select v, sum(is_ref) over rows_so_far as ref_seen, row_number() over rows_so_far as seen, lead(v) over rows_so_far as next
    from (select "{name}"::double as v, 1 as is_ref from ref where v is not null
          union all select "{name}"::double, 0 from cur where "{name}" is not null)
    window rows_so_far as (order by v rows unbounded preceding))
select max(abs(ref_seen / {n} - (seen - ref_seen) / {m})) from ordered where v is distinct from next
"""

JS = """
with r as (select "{name}" as v, count(*) as n from ref where v is not null group by v),
     c as (select "{name}" as v, count(*) as n from cur where v is not null group by v),
     shares as (select coalesce(r.n, 0) / (select sum(n) from r) as p, coalesce(c.n, 0) / (select sum(n) from c) as q
                from r full join c on r.v = c.v)
select sqrt(greatest(sum(case when p > 0 then p * ln(2 * p / (p + q)) else 0 end
                       + case when q > 0 then q * ln(2 * q / (p + q)) else 0 end) / 2, 0)) from shares
"""


def bin_counts(side, breakpoints):
    """Of each numeric column; bins are half-open, the ends open."""
    wanted = []
    for name in numeric:
        wanted += [f'count_if("{name}"::double < {edge!r})' for edge in breakpoints[name]] + [f'count("{name}")']
    below = con.execute(f"select {', '.join(wanted)} from {side}").fetchone()
    below = [[0, *below[i:i + 10]] for i in range(0, len(below), 10)]
    return {name: [hi - lo for lo, hi in zip(b, b[1:])] for name, b in zip(numeric, below)}


def psi(ref, cur):
    e, a = ([count / sum(counts) or 1e-10 for count in counts] for counts in (ref, cur))
    return sum((y - x) * math.log(y / x) for x, y in zip(e, a))


quantiles = ", ".join(f'quantile_cont("{name}"::double, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])' for name in numeric)
breakpoints = dict(zip(numeric, con.execute(f"select {quantiles} from ref").fetchone()))
ref, cur = (bin_counts(side, breakpoints) for side in ("ref", "cur"))
result = {}
for name, kind in columns:
    if kind == "VARCHAR":
        result[name] = {"js": con.execute(JS.format(name=name)).fetchone()[0]}
    else:
        n, m = sum(ref[name]), sum(cur[name])
        ks = con.execute(KS.format(name=name, n=n, m=m)).fetchone()[0]
        result[name] = {"psi": psi(ref[name], cur[name]), "ks": ks}
with open(sys.argv[3], "w", encoding="utf-8") as f:
    json.dump(result, f)
