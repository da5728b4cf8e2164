#!/usr/bin/env bash
# Builds the fuzz targets, and puts links to them into the folder `fuzz` of cargo's target folder, whose path it prints. With
# WRAPPER=RUSTC_WRAPPER the decoder of Parquet is covered as well, and every package is built anew: give CARGO_TARGET_DIR then.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
export "${WRAPPER:-RUSTC_WORKSPACE_WRAPPER}=$here/rustc.sh"
targets=()
for source in fuzz/fuzz_targets/*.rs; do
    targets+=(--test "fuzz-$(basename "$source" .rs)")
done
# An overflow is a finding.
checks='profile.release.package.driftsweep'
built=$(cargo test --no-run --locked --release --workspace --all-features "${targets[@]}" \
    --config "$checks.overflow-checks=true" --config "$checks.debug-assertions=true" --message-format json)
folder=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)/fuzz
mkdir -p "$folder"
grep -o '"executable":"[^"]*/fuzz_[^"]*"' <<<"$built" | cut -d'"' -f4 | while read -r program; do
    name=$(basename "$program")
    name=${name%-*}
    ln -sf "$program" "$folder/${name#fuzz_}"
done
echo "$folder"
