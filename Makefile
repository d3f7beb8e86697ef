# Needs Python 3.11 or 3.12, make and git; everything else is installed into .venv on first use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_ARGS ?=
SEEDS ?=
ARGS ?=
TESTS ?=
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help mt80 test lint format docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@printf '\n  SEEDS=3        number of seeds of make mt80\n'
	@printf '  ARGS="..."     further options of benchmarks/mt80.py (ARGS=--help lists them)\n'
	@printf '  TESTS="..."    options of pytest, e.g. TESTS="tests/test_tasks.py -x"\n'
	@printf '  WORKERS=1      processes that share the tests (default: one a core)\n'
	@printf '  PYTHON=...     interpreter that creates .venv (3.11 or 3.12; default python3)\n'
	@printf '  PIP_ARGS="..." options of pip install, e.g. an index with CPU-only torch\n'

mt80: $(VENV)/.bench  ## learn eight MT80 tasks from no data and write the report to runs/
	$(BIN)/python benchmarks/mt80.py $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

test: $(VENV)/.dev  ## run all tests
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --durations=10 $(TESTS)

lint: $(VENV)/.dev  ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.dev  ## repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove .venv, caches and built files; runs/ stays
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache *.egg-info
	find pwm_sdk benchmarks examples tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of extras, newer than the files that say what to install.
$(VENV)/.bench: EXTRAS = bench
$(VENV)/.dev: EXTRAS = bench,dev
$(VENV)/.docs: EXTRAS = docs

$(VENV)/.bench $(VENV)/.dev $(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/.python
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v in ((3, 11), (3, 12)) else \
	    f"pwm_sdk needs Python 3.11 or 3.12, got {v[0]}.{v[1]}; choose one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@
