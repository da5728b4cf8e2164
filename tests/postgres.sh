#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own, made for it and gone after it: bash tests/postgres.sh COMMAND …
# The command finds it in DRIFTSWEEP_TEST_POSTGRES. Needs the server's programs (Debian and Ubuntu: postgresql), which
# are installed, as root or with sudo, where they are missing.
set -euo pipefail

programs() { compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1 || true; }

if ! command -v initdb >/dev/null && [ -z "$(programs)" ]; then
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo -n)
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
fi
command -v initdb >/dev/null || PATH="$(programs):$PATH"

folder=$(mktemp -d)
# The server refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$folder"
    as=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi
stop() {
    "${as[@]}" pg_ctl -D "$folder/data" -m immediate -s stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT
password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
printf '%s' "$password" >"$folder/password"
chmod a+r "$folder/password"
"${as[@]}" initdb -D "$folder/data" -U driftsweep -A scram-sha-256 --pwfile="$folder/password" -E UTF8 --no-locale \
    >"$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log" >&2; exit 1; }
# A free port: the kernel's choice for a moment.
port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport')
"${as[@]}" pg_ctl -D "$folder/data" -s -w -l "$folder/data/server.log" \
    -o "-h 127.0.0.1 -p $port -k $folder/data -c fsync=off -c max_connections=200" start ||
    { cat "$folder/data/server.log" >&2; exit 1; }
DRIFTSWEEP_TEST_POSTGRES="postgres://driftsweep:$password@127.0.0.1:$port/postgres" "$@"
