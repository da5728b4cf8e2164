#!/usr/bin/env bash
# All checks and tests. Needs a Rust toolchain with rustfmt and clippy; what else the tests need is installed where it is
# missing (Debian and Ubuntu, as root or with sudo), and left out with a message where a variable says so: CONTRIBUTING.md.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; "$@"; }

# A loader and a device: real hardware, or Mesa's software device. A vendor's driver alone does not make a device.
has_vulkan() {
    ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || return 1
    compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null || compgen -G '/dev/dri/renderD*' >/dev/null ||
        [ -e /dev/nvidia0 ]
}
has() { command -v "$1" >/dev/null; }
has_prometheus() { has promtool && has prometheus-node-exporter && has prometheus-pushgateway; }
has_chromium() { has chromium || has chromium-browser || has google-chrome; }

install_packages() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo -n)
    has apt-get || return 1
    "${sudo[@]}" apt-get update -qq &&
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# What tests need: the variable that leaves it out, the check whether it is there, and its packages.
left_out=()
needed=()
provide() {
    local variable=$1 packages=$3
    if [ -n "${!variable:-}" ]; then
        left_out+=("$variable")
    elif ! $2; then
        needed+=($packages)
    fi
}
provide DRIFTSWEEP_TEST_NO_GPU has_vulkan 'mesa-vulkan-drivers libvulkan1'
provide DRIFTSWEEP_TEST_NO_SSH_KEYGEN 'has ssh-keygen' openssh-client
provide DRIFTSWEEP_TEST_NO_CHROMIUM has_chromium 'chromium fonts-dejavu-core'
provide DRIFTSWEEP_TEST_NO_PROMETHEUS has_prometheus 'prometheus prometheus-node-exporter prometheus-pushgateway'
provide DRIFTSWEEP_TEST_NO_SYSTEMD 'has systemd-analyze' systemd
provide DRIFTSWEEP_TEST_NO_NGINX 'has nginx' nginx-light
if [ "${#needed[@]}" -gt 0 ]; then
    step install_packages "${needed[@]}" || {
        echo "The tests need these packages, which could not be installed: ${needed[*]}. Install them, or leave tests out" \
            'by the variables in CONTRIBUTING.md.' >&2
        exit 1
    }
fi

step cargo fmt --check
skipped=$(mktemp)
trap 'rm -f "$skipped"' EXIT
step bash tests/supply.sh "$skipped"
step bash tests/book.sh "$skipped"
# Everything is checked and tested in the release profile and with every feature: one build of the dependencies, and the
# code that ships.
step cargo clippy --locked --release --workspace --all-features --all-targets -- -D warnings
# Without the feature pipeline, which has object stores in any case.
step cargo clippy --locked --release --workspace --exclude driftsweep-features --all-targets --no-default-features -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --locked --release --workspace --all-features --no-deps --lib --quiet
# The store is tested on a PostgreSQL server of its own, too. Nothing is left out that is not asked for.
export DRIFTSWEEP_TEST_ALL=1
if [ -n "${DRIFTSWEEP_TEST_NO_POSTGRES:-}" ]; then
    step cargo test --locked --release --workspace --all-features
else
    step bash tests/postgres.sh cargo test --locked --release --workspace --all-features
fi
# The benchmarks must run; what they measure is for benches/README.md.
step cargo bench --locked --profile release --workspace --all-features --bench count -- --test

# What reads files meets inputs that nobody wrote.
step bash fuzz/brief.sh

# Once more, where it is seen.
if [ -s "$skipped" ]; then
    printf '\n' && cat "$skipped"
fi
[ -z "${DRIFTSWEEP_TEST_NO_POSTGRES:-}" ] || left_out+=(DRIFTSWEEP_TEST_NO_POSTGRES)
if [ "${#left_out[@]}" -gt 0 ]; then
    printf '\nAll that ran passed. SKIPPED by: %s\n' "${left_out[*]}"
fi
if [ -z "${DRIFTSWEEP_TEST_NO_GPU:-}" ]; then
    printf '\nAll passed; GPU tests ran on the device below.\n'
    # The program that was tested: `cargo run` would build the packages once more, without what only tests need.
    target=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)
    "$target/release/driftsweep" doctor
fi
