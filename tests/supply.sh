#!/usr/bin/env bash
# Checks what comes in from outside with cargo-deny and cargo-audit, which are not installed by this script: what they check is
# in deny.toml, and tests/it/supply.rs checks licences, sources and versions by it everywhere. Nothing is fetched: known
# weaknesses (advisories) take a copy of their database. What could not be checked is told on lines that begin with SKIPPED, and
# these lines are added to the file that is named as the first argument.
set -euo pipefail
cd "$(dirname "$0")/.."
skipped=${1:-/dev/null}

skip() { printf 'SKIPPED: %s\n' "$*" | tee -a "$skipped"; }

if cargo deny --version >/dev/null 2>&1; then
    cargo deny --offline --locked check bans licenses sources
else
    skip 'cargo-deny is not installed; licences, sources and versions were checked by the tests alone'
fi

# Where cargo-audit looks for its database.
database=${CARGO_HOME:-$HOME/.cargo}/advisory-db
fetch="git clone https://github.com/RustSec/advisory-db $database"
if ! cargo audit --version >/dev/null 2>&1; then
    skip 'cargo-audit is not installed; advisories were not checked'
elif [ -z "$(find "$database/crates" -name 'RUSTSEC-*' -print -quit 2>/dev/null)" ]; then
    # With a database that is empty it would pass, and without one it would fail.
    skip "cargo-audit has no advisories in $database; they were not checked ($fetch)"
else
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ! cargo audit --no-fetch --stale --color never 2>&1 | tee "$log"; then
        # It ends in the same way for a weakness that it found and for a database that it cannot read.
        grep -q 'error loading advisory database' "$log" || exit 1
        skip "cargo-audit cannot read the advisories in $database; they were not checked ($fetch)"
    fi
fi
