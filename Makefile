# Every target sets itself up on a bare machine; the second call finds the stamp and starts at once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check soak bench clean

# 3.11 first: the exact versions of constraints.txt are tested with it. Tried by running, as a pyenv shim may stand for nothing.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
WORKERS ?= 2
BIN := .venv/bin
READY := .venv/ready
MODULES = $(shell find lakehouse -name '*.py')

help:
	@echo "make demo | test | check | soak | bench | clean"

# PyAV and Pillow carry their native libraries: of Debian's packages only python3-venv can be missing.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "lakehouse needs Python 3.11 or newer on the PATH (or make PYTHON=…)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { command -v apt-get >/dev/null && apt-get install --yes python3-venv; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@

demo: $(READY)
	rm -rf demo-lake
	$(BIN)/lakehouse demo demo-lake

# Bytecode is kept whatever the environment says: each of three hundred processes would compile the library anew.
test: check
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(WORKERS) --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m numpydoc lint $(MODULES)

# Minutes to hours, so no clock on a single test: the marked tests one by one, then the laws with many more examples.
soak: $(READY)
	$(BIN)/pytest -m soak -o timeout=0 -o faulthandler_timeout=0
	$(BIN)/pytest tests -n $(WORKERS) --hypothesis-profile soak -o timeout=0 -o faulthandler_timeout=0

bench: $(READY)
	$(BIN)/python -m benchmarks.point_query
	$(BIN)/python -m benchmarks.column_addition
	$(BIN)/python -m benchmarks.backfill
	$(BIN)/python -m benchmarks.team --rounds 3
	$(BIN)/python -m benchmarks.sql --rounds 5
	$(BIN)/python -m benchmarks.loader --rounds 3
	$(BIN)/python -m benchmarks.loss_curves
	$(BIN)/python -m benchmarks.report

clean:
	rm -rf .venv build dist demo-lake .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
