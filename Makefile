# The recipes below are what CI runs. Everything lands in .venv; nothing else is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_FLAGS ?= -n 2 --dist worksteal

.PHONY: demo test lint docs docs-check bench fuzz clean

demo: $(VENV)/installed
	$(BIN)/python docs/demo.py

test: $(VENV)/installed-dev lint docs-check
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

docs: $(VENV)/installed-dev
	$(BIN)/python docs/gen_cli.py
	$(BIN)/python docs/gen_api.py

docs-check: $(VENV)/installed-dev
	$(BIN)/python docs/gen_cli.py --check
	$(BIN)/python docs/gen_api.py --check

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks

fuzz: $(VENV)/installed-dev
	tests/fuzz/run.sh 600

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv $(VENV)

# torch first, by its exact version: a build for this machine is taken, and none with GPU packages.
$(VENV)/installed: pyproject.toml setup.py constraints.txt $(wildcard deltavcs/*/csrc/*) | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt torch setuptools wheel
	$(PIP) install -q -c constraints.txt --no-build-isolation -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

$(VENV)/installed-bench: $(VENV)/installed-dev
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info demo-run deltavcs/*/*.so
