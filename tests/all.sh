#!/usr/bin/env bash
# All checks and tests. Needs nothing but a Rust toolchain with rustfmt and clippy.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; "$@"; }

step cargo fmt --check
# Everything is checked and tested in the release profile: one build of the dependencies, and the code that ships.
step cargo clippy --locked --release --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --locked --release --no-deps --lib --quiet
step cargo test --locked --release
# The benchmarks must run; what they measure is for benches/README.md.
step cargo bench --locked --profile release --bench count -- --test
