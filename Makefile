# The commands of this project. `make help` lists them.
# What is installed goes into .venv only; `make clean` removes it.

PYTHON ?= python3
VENV   ?= .venv
UV     ?= uv
# A test that takes minutes hangs: no single one needs more than some seconds.
PYTEST_OPTIONS ?= --timeout=300
# Tests run in so many processes at once; those that share Docker stay together.
WORKERS ?= auto
BENCH_OPTIONS  ?=
LATENCY_OPTIONS ?=
# How many random schedules `make schedules` plays, and the seed of the first.
SCHEDULES ?= 10000
SEED      ?= 1

PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet --quiet
RUN := $(VENV)/bin/python -m

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test fuzz schedules soak lint check local-invoke bench bench-full latency cost lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s  %s\n", $$1, $$2 }' Makefile
	@echo "Another Python (3.11 or newer): make PYTHON=python3.13 VENV=.venv-3.13 test"

demo: $(VENV)/.demo ## the whole system on this machine, with servers of its own and sample mail
	@$(RUN) syncer demo $(DEMO_OPTIONS)

test: $(VENV)/.dev ## every test that can run here
	@$(RUN) pytest -n $(WORKERS) $(PYTEST_OPTIONS)

schedules: $(VENV)/.dev ## thousands of random schedules of faults (SCHEDULES=10000 SEED=1), in two processes
	@half=$$(($(SCHEDULES) / 2)); \
	SYNCER_SEED=$(SEED) SYNCER_SCHEDULES=$$half $(play) & first=$$!; \
	SYNCER_SEED=$$(($(SEED) + half)) SYNCER_SCHEDULES=$$(($(SCHEDULES) - half)) $(play); second=$$?; \
	wait $$first && exit $$second

play = $(RUN) pytest -q -p no:cacheprovider $(PYTEST_OPTIONS) tests/crash/test_random_schedules.py

fuzz: $(VENV)/.dev ## say anything to the IMAP side, for FUZZ_MINUTES (10)
	@FUZZ_MINUTES=$(or $(FUZZ_MINUTES),10) $(RUN) pytest --timeout=0 tests/fuzz

soak: $(VENV)/.dev ## the daemon through thousands of cycles of bad luck (SOAK_CYCLES=5000 SOAK_SEED=1)
	@SOAK_CYCLES=$(or $(SOAK_CYCLES),5000) SOAK_SEED=$(or $(SOAK_SEED),1) $(RUN) pytest --timeout=0 -q tests/soak

lint: $(VENV)/.dev ## style, types, and which module may import which
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(VENV)/bin/lint-imports

check: lint test ## lint, then test

local-invoke: $(VENV)/.dev ## the Lambda function in its emulator, between mail servers of this machine (needs Docker and SAM)
	@$(RUN) tests.deploy.local_invoke

bench: $(VENV)/.dev ## how fast this program, mbsync and a probe copy the same mail, in some minutes
	@$(RUN) bench.copy_speed $(BENCH_OPTIONS)

bench-full: $(VENV)/.dev ## the same with a backlog of 100,000 messages, in an hour or so
	@$(RUN) bench.copy_speed --full $(BENCH_OPTIONS)

cost: $(VENV)/.dev ## what the Lambda function uses, and a month's bill (COST_OPTIONS="--messages 500")
	@$(RUN) bench.cost $(COST_OPTIONS)

latency: $(VENV)/.dev ## seconds from the arrival of mail to its copy, with IDLE
	@$(RUN) bench.idle_latency $(LATENCY_OPTIONS)

lock: ## pin again what the .in files ask for (LOCK_OPTIONS=--upgrade for newer versions)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pip install uv, or UV=path/to/uv" >&2; exit 1; }
	@$(call compile,requirements.txt,requirements.in)
	@$(call compile,requirements-cli.txt,-c requirements.txt requirements.in requirements-cli.in)
	@$(call compile,requirements-demo.txt,-c requirements-cli.txt requirements.in requirements-cli.in requirements-demo.in)
	@$(call compile,requirements-dev.txt,-c requirements-demo.txt requirements.in requirements-cli.in requirements-demo.in requirements-dev.in)

# The files hold names, versions and hashes, and say nothing of where the packages come from.
compile = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(LOCK_OPTIONS) --output-file $(1) $(2)

clean: ## remove what the other commands made
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a venv half made or half filled has none, and is completed by the next command.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; Python 3.11 or newer is needed." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is too old or does not run: Python 3.11 or newer is needed (make PYTHON=python3.13 ...)." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module: on Debian or Ubuntu, apt install python3-venv." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: requirements-demo.txt | $(VENV)/.made
	@echo "Installing into $(VENV) what the demo needs (about half a minute)..."
	@$(PIP) install --require-hashes -r requirements-demo.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(VENV)/.made
	@echo "Installing into $(VENV) what the tests need (about half a minute)..."
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@
