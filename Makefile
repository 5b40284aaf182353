# make run    set up and receive in the foreground
# make test   set up and run every check, with the short forms of torture, fuzzing and benchmarks
# make torture  kill the receiver, cut its power, attack it, and judge what is on disk: about ten minutes, Linux and root
# make fuzz   feed every decoder what no sender would send, for an hour or MINUTES
# make windows-bundle  a folder and a zip in dist/ that run on Windows with nothing installed
# make test-windows    run its scripts, and the tests of files and sockets, under Wine: about three minutes
# make test-systemd  live the life of the service on a real systemd in a container: as root, about four minutes
# make bench  measure against the other receivers on this machine
# make performance  the same and more, into docs/performance.md: as root, about two hours

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Real dose reports for the tests; what the package computes with is not needed.
DOSE_REPORTS := pyskindose==25.1.1

.PHONY: run test lint interop-peers torture fuzz fuzz-short bench performance windows-bundle test-windows test-systemd docs clean

run: $(VENV)/installed
	$(BIN)/dcmstore init .
	exec $(BIN)/dcmstore run

test: $(VENV)/installed-test interop-peers lint
	$(BIN)/python -m pytest -n auto
	$(BIN)/python -m torture.crash --kills 10
	$(BIN)/python -m torture.power --cuts 9
	$(BIN)/python -m torture.hostile --short
	@$(MAKE) --no-print-directory fuzz-short
	$(BIN)/python -m bench --short

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The programs that the tests send with. Without root, what is missing is skipped, and the summary says so.
interop-peers:
	@tools/install-peers

# Kills the receiver 200 times, cuts its power 210 times, and looks whether what it acknowledged is there. Then attacks
# it in every way of torture/attacks.py, and looks whether a normal sender is served. Ten minutes in all.
torture: $(VENV)/installed-test interop-peers
	$(BIN)/python -m torture.crash --record
	$(BIN)/python -m torture.power --record
	$(BIN)/python -m torture.hostile --record

# Keeps what it finds in fuzz/corpus. Atheris is for Linux only.
MINUTES ?= 60
fuzz: $(VENV)/installed-fuzz
	nice -n 19 $(BIN)/python -m fuzz --minutes $(MINUTES) --keep

# 75 seconds of it. Where atheris can't be installed, this says so and does nothing; in CI it fails.
fuzz-short: $(VENV)/installed-test
	@if [ "$$(uname -s)" = Linux ] && $(MAKE) --silent $(VENV)/installed-fuzz; then \
		$(BIN)/python -m fuzz --short; \
	elif [ -n "$$CI" ]; then \
		echo "atheris can't be installed here; CI must have it" >&2; exit 1; \
	else \
		echo "skipped: the fuzzer needs atheris, which can't be installed here"; \
	fi

bench: $(VENV)/installed-test interop-peers
	$(BIN)/python -m bench

# Each program takes the machine for itself. Where the disk would be what is measured, memory takes its place.
performance: $(VENV)/installed-test interop-peers
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python -m bench.footprint --record
	$(BIN)/python -m bench.distance --record
	$(BIN)/python -m bench.profile --folder /dev/shm --record
	$(BIN)/python -m bench.growth --folder /dev/shm --record
	$(BIN)/python -m bench --record

windows-bundle: $(VENV)/installed
	@tools/install-wine
	$(BIN)/python -m tools.windows_bundle

# Without Wine and without root to install it, this says so and does nothing; in CI it fails.
test-windows: $(VENV)/installed-test interop-peers
	$(BIN)/python -m tests.windows

# The machine that it boots stays in build/systemd.
test-systemd: $(VENV)/installed-test
	@tools/test-systemd

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

$(VENV)/installed-fuzz: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@
