# Everything here does its own set-up. `make demo` and `make test` work on a fresh machine that has
# Python 3.11 or newer with its venv module.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?=

.PHONY: help setup demo up test check clean

help:
	@echo "make demo    run Kraken once on a simulated laboratory, and print what became of the files"
	@echo "make up      start Kraken with instruments.yaml: Dagit on http://127.0.0.1:3000"
	@echo "make test    the whole test suite"
	@echo "make check   the fast loop: format, lint, types, layers, unit tests, definitions"
	@echo "make setup   only make $(VENV)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Kraken needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/kraken demo --once

up: setup
	$(BIN)/kraken up

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	DAGSTER_HOME=$$(mktemp -d) $(BIN)/dagster definitions validate -w workspace.yaml
	$(BIN)/python -m pytest -m 'not lab' $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .kraken .kraken-demo
