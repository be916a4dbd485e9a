# Everything a developer or a machine does with Nudge. `make` alone lists the targets.
# Extra arguments go through ARGS: make test ARGS="tests/core -k cart"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.nudge-setup
ARGS ?=
# The first interpreter that is new enough; override with PYTHON=...
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
CODE := $(wildcard schemas online_models stream tests benchmarks docs/generate.py)
GATES := $(wildcard tests/test_docs.py tests/test_architecture.py tests/test_packaging.py)
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-annotate --custom-compile-command "make lock"

.PHONY: help setup demo test check chaos bench peers lock docs format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv from the hashed lock and install nudge into it (once)

# requirements/dev.txt pins every package by hash; the project itself is built by the locked hatchling.
$(STAMP): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "nudge needs Python 3.11 or newer; none found on PATH (set PYTHON=...)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## broker, worker, console and simulated shoppers on this machine
	$(BIN)/nudge demo $(ARGS)

test: setup ## all tests: doctests, a real Apache Kafka and killed workers included
	$(BIN)/python -m pytest $(ARGS)

check: setup ## what a reviewer should not have to say: format, lint, types, layers, spelling, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(if $(GATES),$(BIN)/python -m pytest --quiet $(GATES))

chaos: setup ## the fault tests in their long form, for hours; NUDGE_CHAOS_SEED=n takes other moments
	NUDGE_CHAOS=$${NUDGE_CHAOS:-long} $(BIN)/python -m pytest -m chaos $(ARGS)

bench: setup ## run every benchmark; JSON on stdout; QUICK=1 shows within minutes that each works
	@for script in benchmarks/*.py; do echo "# $$script" >&2; \
		$(BIN)/python $$script $(if $(QUICK),--quick) $(ARGS); done

docs: setup ## write the generated pages and schemas anew
	$(BIN)/python docs/generate.py
	$(BIN)/nudge schemas write

format: setup ## rewrite the code the way `make check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

peers: setup ## install the packages that only evaluations and benchmarks compare with
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peers.txt

lock: setup ## resolve requirements/*.txt anew from pyproject.toml (needs the network)
	$(LOCK) pyproject.toml --extra demo --output-file requirements/lock.txt
	$(LOCK) pyproject.toml --extra demo --group dev --constraints requirements/lock.txt --output-file requirements/dev.txt
	$(LOCK) --group peers --constraints requirements/dev.txt --output-file requirements/peers.txt

clean: ## remove what the tools leave behind (the environment stays)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage htmlcov
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
