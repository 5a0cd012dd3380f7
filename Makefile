# Everything here does its own set-up. `make demo` and `make test` work on a fresh machine that has
# Python 3.11 or newer with its venv module.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?=
# Whoever forbids Python to keep what it has compiled has each of hundreds of processes compile it.
export PYTHONDONTWRITEBYTECODE :=
# More than CI has processors, as tests that start the whole product wait for most of their time.
# PYTEST_ARGS='-n0' has the tests in one process, as a debugger needs it.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup
SLURM := kraken_dagster_tests/slurm
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)

DOCKER := kraken_dagster_tests/docker

SEED ?= 1
MINUTES ?= 20
FILES ?= 150

MEGABYTES ?= 1024

.PHONY: help setup demo up test nightly check licences bench chaos alerts-test image docker-test slurm slurm-stop clean

help:
	@echo "make demo    run Kraken once on a simulated laboratory, and print what became of the files"
	@echo "make up      start Kraken with instruments.yaml: Dagit on http://127.0.0.1:3000"
	@echo "make test    the test suite"
	@echo "make nightly the tests that take the whole machine for minutes each"
	@echo "make check   the fast loop: format, lint, types, layers, unit tests, definitions"
	@echo "make bench   a table: Kraken against rsync, rclone, pandas, polling; MEGABYTES=1024"
	@echo "make chaos   a fault run with a judge, as root: SEED=1 MINUTES=20 FILES=150"
	@echo "make alerts-test  ten faults in a real laboratory, and a judge of the alerts, as root"
	@echo "make image   the image kraken:1, on the base that docker/base.image names"
	@echo "make docker-test  the demo in containers, each of which is killed, as root"
	@echo "make slurm   start a real Slurm cluster of one node on this machine, as the tests use it"
	@echo "make licences  write the table of licences in docs/dependencies.md"
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
	$(PYTEST) -m 'not nightly' $(PYTEST_ARGS)

nightly: setup
	$(PYTEST) -n0 -m nightly $(PYTEST_ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	DAGSTER_HOME=$$(mktemp -d) $(BIN)/dagster definitions validate -w workspace.yaml
	$(PYTEST) -m 'not lab and not slurm' $(PYTEST_ARGS)

licences: setup
	$(BIN)/python -m kraken_dagster_tests.licences

bench: setup
	$(BIN)/python benchmarks/peers.py $(MEGABYTES)

chaos: setup
	$(BIN)/python -m kraken_dagster_tests.chaos --seed $(SEED) --minutes $(MINUTES) --files $(FILES)

alerts-test: setup
	$(BIN)/python -m kraken_dagster_tests.alerts.real

# The base that base.image names; `docker/pin.sh` renews its digest.
image:
	docker build --build-arg BASE=$$(cat docker/base.image) -f docker/Dockerfile -t kraken:1 .

docker-test: setup
	@[ -n "$$DOCKER_HOST" ] || docker version >/dev/null 2>&1 || \
		{ echo 'No engine of Docker: eval "$$($(DOCKER)/start.sh)" starts one, on Debian, as root'; exit 1; }
	$(BIN)/python -m kraken_dagster_tests.docker

slurm:
	$(SLURM)/install.sh
	@$(AS_ROOT) $(SLURM)/start.sh
	@echo
	@echo "To log in, as root, who alone may read the key:"
	@echo '  ssh -i $$KRAKEN_SLURM_KEY -o UserKnownHostsFile=$$KRAKEN_SLURM_KNOWN_HOSTS' \
		'-p $$KRAKEN_SLURM_PORT $$KRAKEN_SLURM_USER@$$KRAKEN_SLURM_HOST sinfo'
	@echo "Its settings: $(SLURM)/start.sh. Its end: make slurm-stop"

slurm-stop:
	$(AS_ROOT) $(SLURM)/stop.sh

clean:
	rm -rf $(VENV) .kraken .kraken-demo
