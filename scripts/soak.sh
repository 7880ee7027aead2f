#!/bin/sh
# The long tests of the ledger: its state machine with many new examples, and a million requests through
# its writer, on SQLite and on PostgreSQL. EXAMPLES, REQUESTS and DATABASES change how much of it is run.
set -u
cd "$(dirname "$0")/.."

failed=""
for database in ${DATABASES:-sqlite postgres}; do
    echo "== the ledger against its model on $database, ${EXAMPLES:-300} examples"
    CCM_SOAK_EXAMPLES="${EXAMPLES:-300}" .venv/bin/python -m pytest --database "$database" -q \
        tests/property/test_credits_machine.py "$@" || failed="$failed 'model on $database'"
    echo "== ${REQUESTS:-1000000} requests through the ledger's writer on $database"
    .venv/bin/python -m benchmarks.writer --database "$database" --soak "${REQUESTS:-1000000}" ||
        failed="$failed 'writer on $database'"
done
if [ -n "$failed" ]; then
    echo "ccm: failed:$failed" >&2
    exit 1
fi
