# make run    set up and receive in the foreground
# make test   set up and run every check
# make torture  kill the receiver at random instants and judge what is on disk
# make bench  measure against the other receivers on this machine

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Real dose reports for the tests; what the package computes with is not needed.
DOSE_REPORTS := pyskindose==25.1.1

.PHONY: run test lint interop-peers torture bench docs clean

run: $(VENV)/installed
	$(BIN)/dcmstore init .
	exec $(BIN)/dcmstore run

test: $(VENV)/installed-test interop-peers lint
	$(BIN)/python -m pytest -n auto
	$(BIN)/python -m torture.crash --kills 10
	$(BIN)/python -m bench --short

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The programs that the tests send with. Without root, what is missing is skipped, and the summary says so.
interop-peers:
	@tools/install-peers

# Kills the receiver 200 times and looks whether what it acknowledged is there: about three minutes.
torture: $(VENV)/installed-test
	$(BIN)/python -m torture.crash

bench: $(VENV)/installed-test interop-peers
	$(BIN)/python -m bench

# Writes the pages that the code knows best.
docs: $(VENV)/installed-test
	$(BIN)/python tools/make_uids.py
	$(BIN)/python -c 'from dcmstore import config; print(config.sample(), end="")' >docs/DcmStore.ini

clean:
	rm -rf $(VENV) build dist src/*.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dcmstore needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(DOSE_REPORTS)
	@touch $@
