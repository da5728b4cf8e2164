#!/usr/bin/env bash
# Trains through a real Airflow 3, installed from PyPI for the purpose: bash tests/airflow.sh
# Not part of tests/all.sh: it downloads some 300 MB and takes minutes. AIRFLOW names an installed one instead, by the folder
# of its virtual environment. Needs python3 with venv, curl and a built driftsweep.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
target=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)
driftsweep=$target/release/driftsweep

folder=$(mktemp -d)
stop() {
    [ -z "${airflow:-}" ] || kill -- -"$airflow" 2>/dev/null || true
    rm -rf "$folder"
}
trap stop EXIT

venv=${AIRFLOW:-$folder/venv}
if [ -z "${AIRFLOW:-}" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'apache-airflow>=3,<4'
fi

export AIRFLOW_HOME=$folder/airflow PATH="$venv/bin:$PATH"
mkdir -p "$AIRFLOW_HOME/dags"
cat >"$AIRFLOW_HOME/dags/train.py" <<'PY'
import time

from airflow.sdk import dag, task


@dag(dag_id="train", schedule=None, catchup=False)
def train():
    @task
    def fit(**context):
        conf = context["dag_run"].conf
        assert conf["event"]["data"]["model_id"] == conf["model"], conf
        if conf["model"] == "bad":
            raise RuntimeError("this model cannot be trained")
        if conf["model"] == "slow":
            time.sleep(600)

    fit()


train()
PY
port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport')
password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
printf '{"admin": "%s"}' "$password" >"$AIRFLOW_HOME/passwords.json"
printf '%s' "$password" >"$folder/password"
export AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION=False \
    AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS=admin:admin \
    AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE="$AIRFLOW_HOME/passwords.json" \
    AIRFLOW__API__PORT="$port" AIRFLOW__CORE__EXECUTION_API_SERVER_URL="http://127.0.0.1:$port/execution/" \
    AIRFLOW__API__BASE_URL="http://127.0.0.1:$port"
setsid airflow standalone >"$folder/airflow.log" 2>&1 &
airflow=$!

ask() {
    local token
    token=$(curl -sf -X POST "http://127.0.0.1:$port/auth/token" -H 'content-type: application/json' \
        -d "{\"username\": \"admin\", \"password\": \"$password\"}" | grep -o '"access_token":"[^"]*"' | cut -d'"' -f4)
    curl -sf -H "authorization: Bearer $token" "http://127.0.0.1:$port/api/v2/dags/train$1"
}
for _ in $(seq 180); do
    ask '' >/dev/null 2>&1 && break
    sleep 1
done
ask '' >/dev/null || { tail -50 "$folder/airflow.log" >&2; echo 'Airflow did not start' >&2; exit 1; }

cat >"$folder/fleet.toml" <<TOML
name = "airflow"
sweep = "0 0 1 1 *"
[approval]
approvers = [["ana"]]
[defaults.trigger]
schedule = "* * * * *"
[defaults.retrain]
retries = 0
cpu_hours = 1
cpu_rate = 10
airflow = { url = "http://127.0.0.1:$port", dag = "train", user = "admin", password_file = "password" }
TOML
for model in good bad slow; do
    cat >>"$folder/fleet.toml" <<TOML
[[model]]
name = "$model"
baseline = "$root/datasets/nycflights13/weather-2013-01.parquet"
current = "$root/datasets/nycflights13/weather-2013-01.parquet"
TOML
done

tick() { "$driftsweep" tick "$folder/fleet.toml" --now "$(date -u -d "$1" +%FT%TZ)" || [ $? = 11 ]; }
state() { "$driftsweep" jobs list --all "$folder/fleet.toml" --model "$1" --format json | grep -o '"state": "[a-z_]*"' | tail -1 | cut -d'"' -f4; }
expect() {
    local model=$1 wanted=$2 i
    for i in $(seq 120); do
        tick now >/dev/null
        [ "$(state "$model")" = "$wanted" ] && return
        sleep 2
    done
    "$driftsweep" jobs list --all "$folder/fleet.toml"
    tail -30 "$folder/airflow.log" >&2
    echo "$model: wanted $wanted, found $(state "$model")" >&2
    exit 1
}
tick '-2 minutes'
tick now
expect good succeeded
expect bad failed
expect slow running
slow=$("$driftsweep" jobs list "$folder/fleet.toml" --model slow --format json | grep -o '"id": "[^"]*"' | head -1 | cut -d'"' -f4)
"$driftsweep" jobs cancel "$slow" "$folder/fleet.toml" --by ana --reason 'no longer needed'
expect slow cancelled
ask "/dagRuns/$slow-1" | grep -q '"state":"failed"'
runs=$(ask /dagRuns | grep -o '"total_entries":[0-9]*' | cut -d: -f2)
[ "$runs" = 3 ] || { echo "$runs runs instead of 3" >&2; exit 1; }
"$driftsweep" audit verify "$folder/fleet.toml"
printf '\nAirflow %s trained one model, failed another, and stopped a third.\n' "$(airflow version 2>/dev/null | tail -1)"
