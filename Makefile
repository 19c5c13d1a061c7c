# `make demo` and `make test` work in a fresh clone: whatever they need is installed into .venv first.

PYTHON ?= python3
BIN := .venv/bin
# Made when everything is installed; older than pyproject.toml means: install again.
INSTALLED := .venv/.installed
# What the demonstration needs, which has no compiler; whatever has everything has that, too.
INSTALLED_DEMO := .venv/.installed-demo
INSTALLED_BENCH := .venv/.installed-bench
# Other people's tools have an environment of their own: a plugin of pytest among them would be in all tests.
TOOLS := build/tools
INSTALLED_TOOLS := $(TOOLS)/.installed
# And so has TVM, which works with one version of its own interface only. The clients of older ones have no tests' tools.
TVM := build/tvm-0.27
INSTALLED_TVM := $(TVM)/.installed
OLDER_TVM := build/tvm-0.26/.installed build/tvm-0.25/.installed
RESULTS := build/benchmarks.json
# One more than there are cores: many tests wait for a line or a process. It takes a third less time on two.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
TVM_PYTEST := $(TVM)/bin/python -m pytest -n 2 --dist loadfile

.PHONY: help pictures demo test test-boards test-long test-tvm test-tvm-versions test-tools lint mutants soak generate docs bench plots venv clean
.DEFAULT_GOAL := help

# Tests start Python hundreds of times: where no bytecode is kept, each start compiles the whole package again.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' Makefile

demo: $(firstword $(wildcard $(INSTALLED)) $(INSTALLED_DEMO)) ## show it on a simulated board; ARGS=--full shows all
	@$(BIN)/microrpc demo $(ARGS)

test: $(INSTALLED) ## run the tests on all cores; ARGS="-k name" goes to pytest
	$(PYTEST) -n $(WORKERS) -m "not boards and not long and not tvm and not tools" $(ARGS)

test-boards: $(INSTALLED) ## run those of every other emulated board, and what builds much
	$(PYTEST) -m boards $(ARGS)

test-long: $(INSTALLED) ## run those that take minutes: a fault at every byte
	$(PYTEST) --dist loadfile -m long $(ARGS)

test-tvm: $(INSTALLED_TVM) ## run those against TVM's own programs
	$(TVM_PYTEST) -m "tvm and not tvm_versions" $(ARGS)

test-tvm-versions: $(INSTALLED_TVM) $(OLDER_TVM) ## run those with clients of older releases of TVM
	$(TVM_PYTEST) -m tvm_versions $(ARGS)

test-tools: $(INSTALLED) $(INSTALLED_TOOLS) ## run those with other people's tools
	$(PYTEST) -m tools $(ARGS)

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: $(INSTALLED) ## put deliberate bugs into copies of the code: tests must notice each
	$(BIN)/python -m dev.mutants $(ARGS)

soak: $(INSTALLED) ## call a board over a line that blocks, for 10 minutes; ARGS="--seconds 60"
	$(BIN)/python tests/soak.py $(ARGS)

generate: $(INSTALLED) ## make the blocking client from asyncio's
	$(BIN)/python -m dev.generate

docs: $(INSTALLED) ## build the reference of every public name into build/docs
	$(BIN)/python -m dev.reference build/docs

# TVM is large: only where it is asked for. `make bench` alone says that it is missing, where it is.
bench: $(INSTALLED_BENCH) $(if $(filter tvm,$(ARGS)),$(INSTALLED_TVM)) ## measure what BENCHMARKS.md quotes; ARGS=tvm
	$(BIN)/python -m benchmarks --json $(RESULTS) $(ARGS)

plots: $(INSTALLED_BENCH) ## draw docs/plots from the last `make bench`
	$(BIN)/python -m benchmarks.plots $(RESULTS)

pictures: $(INSTALLED) ## draw docs/pictures from sessions that are run for them
	$(BIN)/python -m dev.pictures
	$(BIN)/python -m dev.monitor_picture

venv: $(INSTALLED) ## only install into .venv

clean: ## remove everything that was made
	rm -rf .venv .venv-peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Sizes are those of .venv on Linux, by `du -sm`; `make test-tools` compares the first with what it is.
$(INSTALLED_DEMO): pyproject.toml
	$(call new_venv)
	@echo "Installing microrpc and what it needs into .venv: 130 MB in all; no compiler."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fast]'
	@touch $@

$(INSTALLED): pyproject.toml
	$(call new_venv)
	@echo "Installing what the tests need into .venv: 660 MB in all, 410 of it a compiler."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,fast]'
	@touch $@

# Make .venv where it is not there, with a Python that is new enough.
define new_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1)." \
			"Name another: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
endef

$(INSTALLED_TOOLS): $(INSTALLED)
	test -x $(TOOLS)/bin/pip || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[tools]'
	@touch $@

$(INSTALLED_TVM): $(INSTALLED)
	test -x $(TVM)/bin/pip || $(PYTHON) -m venv $(TVM)
	$(TVM)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,fast,tvm]'
	@touch $@

build/tvm-%/.installed: $(INSTALLED)
	test -x build/tvm-$*/bin/pip || $(PYTHON) -m venv build/tvm-$*
	build/tvm-$*/bin/python -m pip install --quiet --disable-pip-version-check \
		$$($(BIN)/python -c 'from microrpc.firmware.tvm import versions; print(versions.requirements_of("$*"))') \
		cloudpickle psutil tornado
	@touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,fast,bench]'
	@touch $@
