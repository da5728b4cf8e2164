#!/usr/bin/env bash
# Builds the fuzz targets, and gives each of them RUNS inputs [default: 5000] made from the corpus of the tests. The choice of
# inputs is fixed, so that the result is the same each time. What is found is kept in fuzz/artifacts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs=$("$here/build.sh" | tail -n 1)
TMPDIR=$(mktemp -d)
export TMPDIR RAYON_NUM_THREADS=1 POLARS_MAX_THREADS=1
trap 'rm -rf "$TMPDIR"' EXIT
ulimit -v 4194304
ulimit -c 0
for program in "$programs"/*; do
    target=$(basename "$program")
    mkdir -p "$here/artifacts/$target" "$TMPDIR/corpus/$target"
    "$program" "$TMPDIR/corpus/$target" "$here/../tests/damage/corpus/$target" -dict="$here/dictionaries/$target.dict" \
        -artifact_prefix="$here/artifacts/$target/" -max_len=32768 -timeout=60 -rss_limit_mb=3500 -seed=1 \
        -runs="${RUNS:-5000}" -print_final_stats=1 >"$TMPDIR/$target.log" 2>&1 ||
        { cat "$TMPDIR/$target.log" >&2; exit 1; }
    grep -E 'number_of_executed_units|Done' "$TMPDIR/$target.log" | tr '\n' ' '
    echo "$target"
done
