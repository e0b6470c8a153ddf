# Two commands do everything on a machine with Python 3.11+ and make: `make train` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
CONFIG ?= configs/v4.py
ARGS ?=
BIN := $(VENV)/bin

.PHONY: train test slow lint types check clean

train: $(VENV)/installed
	$(BIN)/python train.py --config $(CONFIG) $(ARGS)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/installed-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint types test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -e . -c constraints.txt
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install -e '.[test]' -c constraints.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed-test
	$(BIN)/python -m pip install -e '.[dev]' -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV)
