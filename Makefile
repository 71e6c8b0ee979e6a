# `make` alone lists the targets; each target makes its prerequisites first.

VENV ?= .venv
PYTHON ?=
PY := $(VENV)/bin/python
SERVICES := $(PY) -m scripts.services
SERVERS ?= kafka postgres redis mongo
DEMO ?= $(PY) -m examples.demo
SCENARIO ?= $(PY) -m examples.integration
BENCH ?= $(PY) -m benchmarks
# Processes of pytest: tests wait more than they compute, so each core carries two.
JOBS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
PYTEST = $(PY) -m pytest -n $(JOBS) --dist loadgroup
ARGS ?=
SEEDS ?= 1000
MINUTES ?= 20

export VENV PYTHON
# Cached bytecode halves the start of a process, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo scenario test test-fast test-311 check fix chaos simulation soak bench lock services-up services-down services-status clean

help: ## list the targets
	@echo 'make TARGET [VENV=.venv] [PYTHON=3.11|/path/to/python] [ARGS="for the command"]'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## create the environment with the development tools

$(VENV)/.dev: pyproject.toml uv.lock scripts/setup.sh
	@sh scripts/setup.sh --dev

$(VENV)/.runtime: pyproject.toml uv.lock scripts/setup.sh
	@sh scripts/setup.sh

demo: $(VENV)/.runtime ## run the main job; needs only Python
	@$(DEMO) $(ARGS)

scenario: $(VENV)/.dev ## three workers, six targets, failures; fails unless every record is accounted for
	@$(SCENARIO) $(ARGS)

check: $(VENV)/.dev ## lint, format, types, import rules and language
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy -m drakkar_example.csv_sink -m drakkar_example.coroutine_executor
	$(VENV)/bin/lint-imports
	$(PY) -m scripts.ceilings
	$(PY) -m scripts.words
	$(PY) -m scripts.privates
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec examples/integration/compose.yaml

fix: $(VENV)/.dev ## apply ruff's automatic fixes
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

test: $(VENV)/.dev ## all tests and doctests against real servers, with coverage; one by one: ARGS="-n 0"
	@$(SERVICES) run $(SERVERS) -- $(PYTEST) --cov --cov-report=term $(ARGS)

test-fast: $(VENV)/.dev ## the tests that need no servers
	@$(PYTEST) tests/unit tests/flows -m "not slow and not integration" $(ARGS)

test-311: ## test-fast on Python 3.11, where the machine has it
	@python=$$(PYTHON=3.11 sh scripts/setup.sh --find) || \
		{ echo 'test-311: NOT RUN, there is no Python 3.11 here; to have one: uv python install 3.11'; exit 0; }; \
	$(MAKE) --no-print-directory test-fast VENV=.venv-3.11 PYTHON="$$python"

chaos: $(VENV)/.dev ## the chaos tests, long, and the table of docs/reliability.md; short: ARGS="-k r1" CHAOS_KILLS=5
	@CHAOS_PAGE=1 CHAOS_RECORDS=$${CHAOS_RECORDS:-100000} CHAOS_KILLS=$${CHAOS_KILLS:-200} \
	CHAOS_STOPS=$${CHAOS_STOPS:-50} CHAOS_RESTARTS=$${CHAOS_RESTARTS:-10} \
	$(SERVICES) run kafka -- $(PYTEST) -n 0 tests/chaos $(ARGS)

simulation: $(VENV)/.dev ## the simulation, long: SEEDS=10000 or SEEDS=500-900; one seed with its timeline: SEEDS=7-8
	@PYTHONPATH=src:tests $(PY) -m simulation $(if $(findstring -,$(SEEDS)),$(SEEDS),0-$(SEEDS)) $(ARGS)

soak: $(VENV)/.dev ## workers for MINUTES on a real Kafka; fails if memory, descriptors, threads or state grow
	@PYTHONPATH=src:tests:. $(SERVICES) run kafka -- $(PY) -m soak $(MINUTES) $(ARGS)

bench: $(VENV)/.dev ## the benchmarks, against real servers
	@$(SERVICES) run kafka -- $(BENCH) $(ARGS)

lock: ## update uv.lock from pyproject.toml
	@sh scripts/setup.sh --lock

services-up: $(VENV)/.runtime ## start the real servers and leave them running
	@$(SERVICES) up $(SERVERS) $(ARGS)

services-down: $(VENV)/.runtime ## stop them
	@$(SERVICES) down

services-status: $(VENV)/.runtime ## list running servers and their addresses
	@$(SERVICES) status $(ARGS)

clean: ## stop the servers, remove generated files
	@if [ -f .services/state.json ] && [ -x $(PY) ]; then $(SERVICES) down; fi
	rm -rf .venv .venv-* .services .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		.coverage .coverage.* coverage.xml htmlcov dist build demo-output scenario-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
