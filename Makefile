# `make demo` and `make test` work in a fresh clone: whatever they need is installed into .venv first.

PYTHON ?= python3
BIN := .venv/bin
# Made when everything is installed; older than pyproject.toml means: install again.
INSTALLED := .venv/.installed
INSTALLED_BENCH := .venv/.installed-bench
# Other people's tools have an environment of their own: a plugin of pytest among them would be in all tests.
TOOLS := build/tools
INSTALLED_TOOLS := $(TOOLS)/.installed
RESULTS := build/benchmarks.json
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
# The tests with a mark that no test may have yet: pytest ends with 5 then.
marked = $(PYTEST) -m $(1) $(ARGS) || { test $$? -eq 5 && echo "no test is marked '$(1)' yet"; }

.PHONY: help demo test test-boards test-long test-tvm test-tools lint mutants soak generate docs bench plots venv clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

demo: $(INSTALLED) ## show it all on a simulated board
	$(BIN)/microrpc demo

test: $(INSTALLED) ## run the tests on all cores; ARGS="-k name" goes to pytest
	$(PYTEST) -m "not boards and not long and not tvm and not tools" $(ARGS)

test-boards: $(INSTALLED) ## run those of every other emulated board
	$(PYTEST) -m boards $(ARGS)

test-long: $(INSTALLED) ## run those that take minutes: a fault at every byte
	$(PYTEST) --dist loadfile -m long $(ARGS)

test-tvm: $(INSTALLED) ## run those against TVM's own programs
	$(call marked,tvm)

test-tools: $(INSTALLED) $(INSTALLED_TOOLS) ## run those with other people's tools
	$(call marked,tools)

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

bench: $(INSTALLED_BENCH) ## measure what BENCHMARKS.md quotes
	$(BIN)/python -m benchmarks --json $(RESULTS) $(ARGS)

plots: $(INSTALLED_BENCH) ## draw docs/plots from the last `make bench`
	$(BIN)/python -m benchmarks.plots $(RESULTS)

venv: $(INSTALLED) ## only install into .venv

clean: ## remove everything that was made
	rm -rf .venv .venv-peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1)." \
			"Name another: make PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,fast]'
	@touch $@

$(INSTALLED_TOOLS): $(INSTALLED)
	test -x $(TOOLS)/bin/pip || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[tools]'
	@touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,fast,bench]'
	@touch $@
