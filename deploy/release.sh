#!/usr/bin/env bash
# Makes the archive of a release: bash deploy/release.sh [FOLDER]. The program in it has every feature but Kafka, which is
# built on a library in C; what it needs of a system is its C library.
set -euo pipefail
cd "$(dirname "$0")/.."
to=$(realpath -m "${1:-target/dist}")

cargo build --locked --release --package driftsweep-cli --features kubernetes,pipeline
built=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)/release/driftsweep
version=$("$built" --version | cut -d' ' -f2)
machine=$(rustc -vV | sed -n 's/^host: //p')
name="driftsweep-$version-$machine"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/$name/completions" "$to"
cp "$built" "$folder/$name/driftsweep"
strip "$folder/$name/driftsweep"
cp README.md CHANGELOG.md LICENSE* "$folder/$name/"
"$built" schema >"$folder/$name/fleet.schema.json"
"$built" man --output "$folder/$name/man/man1"
for shell in bash zsh fish; do
    "$built" completions "$shell" >"$folder/$name/completions/driftsweep.$shell"
done
# The same files give the same archive.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$folder" -c "$name" | gzip -n -9 >"$to/$name.tar.gz"
(cd "$to" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "$to/$name.tar.gz"
