#!/bin/sh
# Builds adminui/static/adminui/site.css from adminui/assets/site.css and the templates. Only needed after a change
# of either: the built file is committed. The compiler is a wheel with a program in it, kept in .tools/css.
set -eu
cd "$(dirname "$0")/.."

tool=.tools/css/bin/tailwindcss
if ! [ -x "$tool" ]; then
    .venv/bin/python -m venv --clear .tools/css
    .tools/css/bin/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements-css.lock
fi
exec "$tool" -i adminui/assets/site.css -o "${1:-adminui/static/adminui/site.css}" --minify
