PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One process a core, each with one thread: nets in tests are too small to share.
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# Stamps: the environment is made anew only where one of these two files changed.
BASE := .venv/.base-installed
DEV := .venv/.dev-installed
PINS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-full lint docs bench clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(BASE)  ## embed the painted landscape into demo/ (no torch, no download)
	$(BIN)/rs-embed demo

test: lint  ## lint, types and tests
	$(PYTEST) -m "not online and not full"

test-full: lint  ## the same, with the tests that take minutes
	$(PYTEST) -m "not online"

lint: $(DEV)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DEV)  ## build the pages into site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(DEV)  ## speed and memory, as ratios measured in one run
	$(BIN)/python -m benchmarks

clean:  ## remove the environment and everything that was built
	rm -rf .venv demo dist build site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/pip:
	$(PYTHON) -m venv .venv

$(BASE): $(PINS) | $(BIN)/pip
	$(INSTALL) -e .
	@touch $@

# The extras hold the base, so that a later `make demo` has nothing to do.
$(DEV): $(PINS) | $(BIN)/pip
	$(INSTALL) -e '.[torch,dev]'
	@touch $(BASE) $@
