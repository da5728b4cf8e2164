#!/usr/bin/env bash
# Keeps few inputs that together reach all code that the corpus of a target reaches, of MOST bytes each at most (4000), in
# tests/damage/corpus: fuzz/keep.sh TARGET. SEEDS and WORK are those of run.sh.
set -euo pipefail
target=$1
here=$(cd "$(dirname "$0")" && pwd)
program=${PROGRAMS:?the folder that fuzz/build.sh prints}/$target
work=${WORK:-$here}
kept=$here/../tests/damage/corpus/$target
TMPDIR=$(mktemp -d -p /dev/shm)
export TMPDIR RAYON_NUM_THREADS=1 POLARS_MAX_THREADS=1
trap 'rm -rf "$TMPDIR"' EXIT
ulimit -v 4194304
ulimit -c 0
mkdir "$TMPDIR/small" "$TMPDIR/new"
for folder in "$kept" "$work/corpus/$target" ${SEEDS:+"$SEEDS/$target"}; do
    find "$folder" -type f -size "-${MOST:-4000}c" -exec cp -t "$TMPDIR/small" {} +
done
nice -n 19 "$program" -set_cover_merge=1 -use_counters=0 -timeout=10 -rss_limit_mb=3500 "$TMPDIR/new" "$TMPDIR/small"
rm -rf "$kept"
cp -r "$TMPDIR/new" "$kept"
