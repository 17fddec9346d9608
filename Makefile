# The two commands a newcomer needs: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MESSAGES ?= 2000
FAULTS ?= 30
SEED ?= 1
SEEDS ?= 50
DEBIAN13 ?= build/debian13
WORKERS ?= 4
# Tests start hundreds of processes: that each compiles the sources anew costs a minute. An empty value keeps what was compiled.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup packages test-packages demo test lint types imports advisories check bench fuzz chaos hostile rabbitmq4 docs lock clean

help: ## Show what can be made.
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

packages:
	@PYTHON=$(PYTHON) sh deploy/packages.sh

test-packages: packages
	@PYTHON=$(PYTHON) sh deploy/packages.sh tests

setup: packages $(VENV)/.done ## Make the virtual environment from the hashed lock, and install RabbitMQ where it is missing.

$(VENV)/.done: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup ## Run a network of six centres for real, kill one in the middle, and reconcile.
	$(BIN)/relay demo --messages $(MESSAGES)

test: setup test-packages ## Run every test against a real RabbitMQ.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: lint types imports advisories ## Everything that judges the code without running it.

lint: setup ## Style, unused dependencies.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/deptry relay --optional-dependencies-dev-groups dev,bench

types: setup ## Strict types.
	$(BIN)/mypy

imports: setup ## The layers of docs/overview.md.
	$(BIN)/lint-imports

advisories: setup ## Known vulnerabilities of what is locked; says so where nobody can be asked.
	$(BIN)/python deploy/advisories.py requirements.lock requirements-dev.lock

bench: setup ## Measure against plain FastStream (long); writes docs/reference/performance.md with WRITE=--write.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	$(BIN)/python -m tests.bench $(WRITE)

fuzz: setup ## Try to break whatever reads bytes from outside, with a million bad inputs (minutes); WRITE=--write keeps the figures.
	$(BIN)/python -m tests.fuzz --cases 1000000 $(WRITE)

chaos: setup test-packages ## Draw faults from SEED against four nodes and count what is lost (long); adds its row to the figures, unless WRITE=--no-write.
	$(BIN)/python -m tests.chaos --messages $(if $(filter file,$(origin MESSAGES)),20000,$(MESSAGES)) --faults $(FAULTS) --seed $(SEED) $(WRITE)

hostile: setup ## Put a malicious broker of SEEDS seeds between two nodes (long).
	RELAY_HOSTILE_SEEDS=$(SEEDS) $(BIN)/python -m pytest tests/attacks/test_broker.py

rabbitmq4: setup test-packages ## Run what concerns the broker against RabbitMQ 4, from a Debian 13 in the folder DEBIAN13 (as root).
	sh deploy/debian13.sh $(DEBIAN13)
	RELAY_RABBITMQ=$(abspath $(DEBIAN13))/relay $(BIN)/python -m pytest tests/test_rights.py tests/test_topology.py \
	  tests/test_rabbit.py tests/test_paths.py tests/test_repair.py tests/test_recall.py
	RELAY_RABBITMQ=$(abspath $(DEBIAN13))/relay $(BIN)/python -m tests.chaos --short --messages 400 --faults 13 --seed 2016

docs: setup ## Write the reference pages, schemas, examples and dashboards that are generated from the code.
	$(BIN)/python -m docs.generate
	$(BIN)/python -m deploy.grafana.make

lock: ## Write the locks anew (needs uv); they carry hashes and no address.
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra bench -c requirements-dev.lock -o requirements-bench.lock pyproject.toml

clean: ## Remove what was made here.
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
