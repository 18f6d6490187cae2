# Nothing needs to be installed first but Python ≥ 3.11 and make: each target makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help reproduce test check clean

help:
	@echo "make reproduce   draw the figures and write paper_repro.md (ARGS='--full' for everything)"
	@echo "make test        run the whole test suite (ARGS='-k event' for a part)"
	@echo "make check       ruff and mypy"
	@echo "make clean       remove the environment"

reproduce: $(VENV)/.reproduce
	OMP_NUM_THREADS=1 $(BIN)/lionode reproduce $(ARGS)

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The stamps are newer than what they depend on once installed: a second run installs nothing.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lionode needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.reproduce: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[data,train,worst-case]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,sweep,train,worst-case]'
	@touch $@ $(VENV)/.reproduce

clean:
	rm -rf $(VENV)
