# What README and CI call. Each target sets itself up in .venv and can be run alone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 5

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.demo-stamp ## compare four schemes and six baselines; table and figures in out/demo
	@$(BIN)/dtmarl compare --scenario paper-v0 --seeds 0:20 --out out/demo

test: $(VENV)/.dev-stamp ## all tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(VENV)/.dev-stamp ## formatting, lint rules, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(VENV)/.bench-stamp ## speed of the environment, beside its peers
	@$(BIN)/python benchmarks/env_step.py --profile
	@$(BIN)/python benchmarks/vector.py

clean: ## remove results and caches; .venv stays
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The demo needs neither torch nor ray.
$(VENV)/.demo-stamp: pyproject.toml | $(BIN)/activate
	$(PIP) --editable '.[plot]'
	@touch $@

$(VENV)/.dev-stamp: pyproject.toml | $(BIN)/activate
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo-stamp

$(VENV)/.bench-stamp: pyproject.toml | $(BIN)/activate
	$(PIP) --editable '.[bench]'
	@touch $@

# An environment whose set-up was cut short has no pip that runs, and is made anew.
$(BIN)/activate:
	$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip --version > /dev/null || { rm -f $@; exit 1; }
