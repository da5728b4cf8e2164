#!/usr/bin/env bash
# Fuzzes one format: fuzz/run.sh TARGET SECONDS [libFuzzer's options]. PROGRAMS names the folder that build.sh prints, SEEDS
# the folder of seeds.py and `fuzz-seeds`, WORK where the corpus and what is found are kept. The process has 4 GiB of
# address space: memory that a file asks for in vain ends it. Files are written to memory.
set -euo pipefail
target=$1 seconds=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
program=${PROGRAMS:?the folder that fuzz/build.sh prints}/$target
work=${WORK:-$here}
mkdir -p "$work/corpus/$target" "$work/artifacts/$target"
TMPDIR=$(mktemp -d -p /dev/shm)
export TMPDIR RAYON_NUM_THREADS=1 POLARS_MAX_THREADS=1
trap 'rm -rf "$TMPDIR"' EXIT
ulimit -v 4194304
ulimit -c 0
TIMEFORMAT='%R s, %U s + %S s of CPU time'
time nice -n 19 "$program" "$work/corpus/$target" ${SEEDS:+"$SEEDS/$target"} "$here/../tests/damage/corpus/$target" \
    -dict="$here/dictionaries/$target.dict" -artifact_prefix="$work/artifacts/$target/" -max_len=32768 \
    -fork=1 -ignore_crashes=1 -ignore_timeouts=1 -ignore_ooms=1 -timeout=10 -rss_limit_mb=3500 \
    -max_total_time="$seconds" "$@"
