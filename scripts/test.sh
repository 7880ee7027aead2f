#!/bin/sh
# Runs the whole suite twice: on SQLite and on PostgreSQL, each on two processes. Arguments go
# to pytest.
set -u
cd "$(dirname "$0")/.."

failed=""
for database in sqlite postgres; do
    echo "== tests on $database"
    .venv/bin/python -m pytest --database "$database" -q -rs -n 2 --dist worksteal "$@" || failed="$failed $database"
done
if [ -n "$failed" ]; then
    echo "ccm: tests failed on:$failed (each run's summary is above)" >&2
    exit 1
fi
