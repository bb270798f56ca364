# Two commands: `make search` runs the main job, `make test` the tests; both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup search test test-faults test-triton lint types format clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Made again only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	@echo "setup: making $(VENV) and installing pinned dependencies (a few minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "setup: Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) -V 2>&1); try make PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)
	@echo "setup: done; $(BIN)/ldnn is ready"

setup: $(STAMP)  ## make .venv and install pinned dependencies

search: setup  ## run the main job on real data: search, evaluation across sizes, report
	@$(BIN)/ldnn search quickstart --resume
	@echo "make search: done; the report is runs/quickstart/report/index.html"

test: setup lint types  ## run all checks and tests
	@$(BIN)/python -m pytest

test-faults: setup  ## inject every fault, kill by kill, and print the table of what was lost: nothing (20 minutes)
	@$(BIN)/python -m tests.faults

# The version that belongs to the pinned torch; aside, because all else runs without it.
build/triton: constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $@ triton==3.7.1
	@touch $@

test-triton: setup build/triton  ## run the kernels for CUDA devices in Triton's interpreter and compile them (4 minutes, 700 MB)
	@PYTHONPATH=build/triton $(BIN)/python -m tests.triton_kernels

lint: setup  ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup  ## check types
	@$(BIN)/mypy

format: setup  ## format all code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove the virtual environment and caches; runs are kept
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
