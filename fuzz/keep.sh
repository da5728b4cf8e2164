#!/usr/bin/env bash
# Keeps the fewest inputs that reach all code that the corpus of a target reaches, of 6 KB each at most, in
# tests/damage/corpus: fuzz/keep.sh TARGET. SEEDS and WORK are those of run.sh.
set -euo pipefail
target=$1
here=$(cd "$(dirname "$0")" && pwd)
program=${CARGO_TARGET_DIR:-$here/target}/release/$target
work=${WORK:-$here}
kept=$here/../tests/damage/corpus/$target
TMPDIR=$(mktemp -d -p /dev/shm)
export TMPDIR RAYON_NUM_THREADS=1 POLARS_MAX_THREADS=1
trap 'rm -rf "$TMPDIR"' EXIT
ulimit -v 4194304
ulimit -c 0
mkdir "$TMPDIR/small" "$TMPDIR/new"
find "$kept" "$work/corpus/$target" ${SEEDS:+"$SEEDS/$target"} -type f -size -6k -exec cp -t "$TMPDIR/small" {} +
nice -n 19 "$program" -set_cover_merge=1 -timeout=10 -rss_limit_mb=3500 "$TMPDIR/new" "$TMPDIR/small"
rm -rf "$kept"
cp -r "$TMPDIR/new" "$kept"
