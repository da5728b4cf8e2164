#!/usr/bin/env bash
# All checks and tests. Needs a Rust toolchain with rustfmt and clippy, and a Vulkan device for the GPU tests: where
# there is none, Mesa's software device is installed (Debian and Ubuntu, as root or with sudo). DRIFTSWEEP_TEST_NO_GPU=1
# leaves the GPU tests out. The store is tested on PostgreSQL, whose server is installed and started likewise;
# DRIFTSWEEP_TEST_NO_POSTGRES=1 leaves that out. Signatures are tested with the ssh-keygen of OpenSSH, which is installed
# likewise; DRIFTSWEEP_TEST_NO_SSH_KEYGEN=1 leaves that out.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; "$@"; }

# A loader and a device: real hardware, or Mesa's software device. A vendor's driver alone does not make a device.
has_vulkan() {
    ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || return 1
    compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null || compgen -G '/dev/dri/renderD*' >/dev/null ||
        [ -e /dev/nvidia0 ]
}

install_software_vulkan() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo -n)
    command -v apt-get >/dev/null || return 1
    "${sudo[@]}" apt-get update -qq &&
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            mesa-vulkan-drivers libvulkan1
}

if [ -z "${DRIFTSWEEP_TEST_NO_GPU:-}" ] && ! has_vulkan; then
    step install_software_vulkan || {
        echo 'No Vulkan device, and none could be installed. Install mesa-vulkan-drivers and libvulkan1 (or the' \
            'vendor driver), or leave the GPU tests out with DRIFTSWEEP_TEST_NO_GPU=1.' >&2
        exit 1
    }
fi

install_openssh() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo -n)
    command -v apt-get >/dev/null || return 1
    "${sudo[@]}" apt-get update -qq &&
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-client
}

if [ -z "${DRIFTSWEEP_TEST_NO_SSH_KEYGEN:-}" ] && ! command -v ssh-keygen >/dev/null; then
    step install_openssh || {
        echo 'No ssh-keygen, and it could not be installed. Install openssh-client, or leave the tests of signatures out' \
            'with DRIFTSWEEP_TEST_NO_SSH_KEYGEN=1.' >&2
        exit 1
    }
fi

step cargo fmt --check
skipped=$(mktemp)
trap 'rm -f "$skipped"' EXIT
step bash tests/supply.sh "$skipped"
# Everything is checked and tested in the release profile and with every feature: one build of the dependencies, and the
# code that ships.
step cargo clippy --locked --release --workspace --all-features --all-targets -- -D warnings
step cargo clippy --locked --release --workspace --all-targets --no-default-features -- -D warnings
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
if [ -n "${DRIFTSWEEP_TEST_NO_POSTGRES:-}" ]; then
    printf '\nSKIPPED: PostgreSQL; the store was tested on SQLite only\n'
fi
if [ -n "${DRIFTSWEEP_TEST_NO_SSH_KEYGEN:-}" ]; then
    printf '\nSKIPPED: signatures by ssh-keygen\n'
fi
if [ -n "${DRIFTSWEEP_TEST_NO_GPU:-}" ]; then
    printf '\nAll passed, but SKIPPED without a GPU: %s tests of parity\n' \
        "$(cargo test --locked --release --workspace --all-features --test it -- --list 2>/dev/null | grep -c '^parity::')"
else
    printf '\nAll passed; GPU tests ran on the device below.\n'
    # The program that was tested: `cargo run` would build the packages once more, without what only tests need.
    target=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)
    "$target/release/driftsweep" doctor
fi
