#!/bin/sh
# Finds a Python of 3.11 or newer and lets scripts/setup.py make the virtual environment.
# Usage: scripts/setup.sh runtime|dev
set -eu
cd "$(dirname "$0")/.."

for python in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11 python; do
    # A name on the PATH may be a shim without a Python behind it: ask it.
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        exec "$python" scripts/setup.py "$@"
    fi
done
found=$("${PYTHON:-python3}" --version 2>/dev/null || true)
echo "ccm: Python 3.11 or newer is needed, and ${found:-no python3} was found. Install it, or name one: PYTHON=/path/to/python3.12 make run" >&2
exit 1
