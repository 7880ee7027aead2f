# The commands of this project; `make help` lists them. See README.md.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python

.PHONY: help run test lint format css bench bench-failover bench-reconcile bench-usage faults soak e2e e2e-litellm setup setup-dev clean

help:
	@echo "make run      the whole product on this machine, with a demo to try"
	@echo "make test     all tests, on SQLite and on PostgreSQL (ARGS='-k name' to choose)"
	@echo "make lint     every static check"
	@echo "make e2e      browser and real Claude Code tests (need npm and Chromium)"
	@echo "make e2e-litellm  a real LiteLLM proxy beside CCM (installs 700 MB)"
	@echo "make bench    speed beside a bare proxy, and of the ledger (ARGS='--seconds 5')"
	@echo "make bench-failover   three providers under load, one of which dies and comes back"
	@echo "make bench-usage      usage with a million records on PostgreSQL: queries with their plans, pages, exports"
	@echo "make bench-reconcile  reconciliation of a million transfers (ARGS='--postgres')"
	@echo "make faults   kill everything under load, then check the books (ARGS='--faults 500')"
	@echo "make soak     the ledger against its model for long, and a million requests through its writer"
	@echo "make format   put the code into the house's format"
	@echo "make css      build the pages' style sheet after a change of a template or of adminui/assets/site.css"
	@echo "make clean    remove caches (clean-all: the virtual environment and the demo's data too)"

run: setup
	@exec $(PY) -m ccm_site.supervisor --with-parent

test: setup-dev
	@exec sh scripts/test.sh $(ARGS)

lint: setup-dev
	@exec sh scripts/lint.sh

format: setup-dev
	@.venv/bin/ruff check --fix -q . ; .venv/bin/ruff format -q .

css: setup-dev
	@exec sh scripts/css.sh

bench: setup-dev
	@exec $(PY) -m benchmarks.run $(ARGS)

bench-failover: setup-dev
	@exec $(PY) -m benchmarks.failover $(ARGS)

bench-usage: setup-dev
	@exec $(PY) -m benchmarks.usage $(ARGS)

bench-reconcile: setup-dev
	@exec $(PY) -m benchmarks.reconcile $(ARGS)

faults: setup-dev
	@exec $(PY) -m tests.faults.run $(ARGS)

soak: setup-dev
	@exec sh scripts/soak.sh $(ARGS)

e2e: setup-dev
	@CCM_E2E=1 exec $(PY) -m pytest tests/e2e -rs $(ARGS)

e2e-litellm: setup-dev
	@CCM_E2E=1 CCM_E2E_LITELLM=1 exec $(PY) -m pytest tests/e2e/test_litellm.py -rs $(ARGS)

setup:
	@sh scripts/setup.sh runtime

setup-dev:
	@sh scripts/setup.sh dev

clean:
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv/*' -not -path './.tools/*' -prune -exec rm -rf {} +

.PHONY: clean-all
clean-all: clean
	@rm -rf .venv .tools var
