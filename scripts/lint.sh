#!/bin/sh
# Runs every check, all of them even if one fails, and fails if any did.
set -u
cd "$(dirname "$0")/.."
bin=.venv/bin
failed=""

check() {
    name=$1
    shift
    echo "== $name"
    "$@" || failed="$failed '$name'"
}

# The settings of an installation in production, with secrets made for this run.
production() {
    random=$($bin/python -c 'import secrets; print(secrets.token_urlsafe(50))')
    fernet=$($bin/python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())')
    env -u CCM_DEMO -u DEBUG CCM_DATA_DIR="${TMPDIR:-/tmp}/ccm-lint-no-such-directory" CCM_PUBLIC_URL=https://ccm.example \
        DJANGO_SECRET_KEY="$random" CCM_ENCRYPTION_KEYS="$fernet" CCM_KEY_PEPPER="$random" \
        DATABASE_URL=postgres://ccm@127.0.0.1/ccm "$@"
}

check "ruff format" $bin/ruff format --check -q .
check "ruff check" $bin/ruff check -q .
check "mypy" $bin/mypy
check "import-linter" $bin/lint-imports --no-logo
check "migrations are complete" env DJANGO_SETTINGS_MODULE=tests.plugin.check_settings DATABASE_URL=sqlite:///:memory: $bin/python manage.py makemigrations --check --dry-run
check "check --deploy" production $bin/python manage.py check --deploy --fail-level WARNING
if [ -n "$failed" ]; then
    echo "ccm: failed:$failed" >&2
    exit 1
fi
echo "All checks passed."
