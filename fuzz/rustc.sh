#!/usr/bin/env bash
# RUSTC_WORKSPACE_WRAPPER, or RUSTC_WRAPPER: coverage for libFuzzer in the packages that read files, and where other packages
# are built by it, in the decoder of Parquet.
previous=
for argument in "$@"; do
    case "$previous $argument" in
    '--crate-name driftsweep' | '--crate-name driftsweep_common' | '--crate-name driftsweep_fleet' | \
        '--crate-name driftsweep_fuzz' | '--crate-name fuzz_'* | '--crate-name polars_parquet')
        exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
        ;;
    esac
    previous=$argument
done
exec "$@"
