#!/usr/bin/env bash
# Builds the book of the documents with mdBook, which is installed below the target folder where it is missing. Where it cannot
# be installed, a line that begins with SKIPPED says so, and is added to the file that is named as the first argument.
set -euo pipefail
cd "$(dirname "$0")/.."
skipped=${1:-/dev/null}
version=0.5.4

target=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)
PATH="$target/tools/bin:$PATH"
if ! command -v mdbook >/dev/null; then
    cargo install --quiet --debug --locked --root "$target/tools" --target-dir "$target/tools/build" \
        --no-default-features --version "$version" mdbook || {
        printf 'SKIPPED: mdBook could not be installed; the book was not built\n' | tee -a "$skipped"
        exit 0
    }
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mdbook build --dest-dir "$target/book" docs 2>&1 | tee "$log"
# It tells what it does not find, and goes on.
if grep -qE 'WARN|ERROR' "$log"; then
    exit 1
fi
