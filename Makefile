# Needs make, git and Python: 3.11 or 3.12 for the benchmark and all tests, which need simulators
# that have no wheels beyond; any from 3.11 on for test-base and docs. Everything else is installed
# on first use, into .venv, .venv-base (the package alone) and .venv-docs (no torch).

PYTHON ?= python3
VENV := .venv
BASE := .venv-base
DOCS := .venv-docs
BIN := $(VENV)/bin
PIP_ARGS ?=
SEEDS ?=
ARGS ?=
TESTS ?=
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help mt80 test test-base lint format docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@printf '\n  SEEDS=3        number of seeds of make mt80\n'
	@printf '  ARGS="..."     further options of benchmarks/mt80.py (ARGS=--help lists them)\n'
	@printf '  TESTS="..."    options of pytest, e.g. TESTS="tests/test_tasks.py -x"\n'
	@printf '  WORKERS=1      processes that share the tests (default: one a core)\n'
	@printf '  PYTHON=...     interpreter that creates .venv (3.11 or 3.12), .venv-base or .venv-docs (3.11 or later)\n'
	@printf '  PIP_ARGS="..." options of pip install, e.g. an index with CPU-only torch\n'

mt80: $(VENV)/.bench  ## learn eight MT80 tasks from no data, report in runs/ (Python 3.11 or 3.12)
	$(BIN)/python benchmarks/mt80.py $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

test: $(VENV)/.dev  ## run all tests (Python 3.11 or 3.12)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --durations=10 $(TESTS)

test-base: $(BASE)/.dev  ## run the tests of the package without extras, on any Python (PYTHON=python3.13)
	$(BASE)/bin/python -m pytest -q -n $(WORKERS) --dist worksteal --extras dev -rfEs $(TESTS)

lint: $(VENV)/.dev  ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.dev  ## repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS)/.docs  ## build the documentation into site/
	PATH="$(CURDIR)/$(DOCS)/bin:$$PATH" $(DOCS)/bin/zensical build --strict --clean

clean:  ## remove what is installed, caches and built files; runs/ stays
	rm -rf $(VENV) $(BASE) $(DOCS) build dist site .pytest_cache .ruff_cache .cache *.egg-info
	find pwm_sdk benchmarks examples tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of extras, newer than the files that say what to install.
$(VENV)/.bench: EXTRAS = bench
$(VENV)/.dev: EXTRAS = bench,dev

$(VENV)/.bench $(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.python
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

# The newest versions that pyproject.toml allows: what a user gets who does not take constraints.txt.
$(BASE)/.dev: pyproject.toml | $(BASE)/.python
	$(BASE)/bin/python -m pip install $(PIP_ARGS) -e '.[dev]'
	@touch $@

# The extra alone: the pages are built from the text of the package, which is not imported.
$(DOCS)/.docs: pyproject.toml constraints.txt | $(DOCS)/.python
	$(DOCS)/bin/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	    print(*project["optional-dependencies"]["docs"], sep="\n")' > $(DOCS)/requirements.txt
	$(DOCS)/bin/python -m pip install $(PIP_ARGS) -c constraints.txt -r $(DOCS)/requirements.txt
	@touch $@

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v in ((3, 11), (3, 12)) else \
	    f"the simulators of the benchmark need Python 3.11 or 3.12, got {v[0]}.{v[1]}; choose one with: " \
	    "make PYTHON=python3.12 ..., or test the package without them: make test-base")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(BASE)/.python $(DOCS)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 11) else \
	    f"pwm_sdk needs Python 3.11 or later, got {v[0]}.{v[1]}; choose one with: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $(@D)
	@touch $@
