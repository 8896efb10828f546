# The list of commands that people and CI share. Needs Python 3.11 or newer with venv, git and make; the rest it fetches
# itself. PYTHON=/path/to/python picks another interpreter for .venv.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

BIN := .venv/bin
SANDBOX_DIR ?= .sandbox
CLUSTERS ?= 1
WORKERS ?= 3
# More arguments for pytest: make test ARGS="-k rewind"
ARGS ?=

export PYTHON
# What a test or tool does must not depend on how the person who runs it has set up pip or pytest.
unexport PYTEST_ADDOPTS

FAST_TESTS = $(wildcard tests/unit tests/property tests/engine tests/contract tests/docs)
CODE = $(wildcard gitsyncd tests docs scripts)

.PHONY: help demo test faults soak check bench docs sandbox sandbox-stop env lock clean format lint types imports fast

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: env ## a real cluster, a Git repository and the daemon, with things to try; DEMO_SCRIPT=1 plays them and ends
	@DEMO_SCRIPT='$(DEMO_SCRIPT)' $(BIN)/python -m tests.demo

test: env ## every test, real clusters and Git servers included
	@$(BIN)/python -m tests.sandbox build --servers
	@HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-full} $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not bench" $(ARGS)

faults: env ## three hundred kills, two hundred faults by chance, and every network fault in every phase
	@$(BIN)/python -m tests.sandbox build
	@FAULTS=all $(BIN)/python -m pytest -n $(WORKERS) --dist load $(addprefix tests/e2e/test_,kill_first.py kill_matrix.py random_faults.py network_faults.py) $(ARGS)

soak: env ## ten minutes of work and faults: memory, descriptors, threads and temporary files do not grow; SOAK_S=60 for one
	@$(BIN)/python -m tests.sandbox build
	@SOAK_S=$${SOAK_S:-600} $(BIN)/python -m pytest -s tests/e2e/test_soak.py $(ARGS)

check: env lint types imports fast ## lint, format, types, architecture, fast tests: before each commit, in two minutes or so

bench: env ## the benchmarks, with a table of ratios
	@$(BIN)/python -m tests.bench $(ARGS)

docs: env ## build the documentation into site/ and check every link
	@$(BIN)/python -m tests.docs.generate --check
	@$(BIN)/mkdocs build --strict
	@echo "documentation is in site/index.html"

sandbox: env ## start a control plane alone and print its kubeconfig; CLUSTERS=2 for more
	@$(BIN)/python -m tests.sandbox up --dir $(SANDBOX_DIR) --clusters $(CLUSTERS)
	@for file in $(abspath $(SANDBOX_DIR))/*/admin.kubeconfig; do echo "export KUBECONFIG=$$file"; done

sandbox-stop: env ## end what make sandbox started
	@$(BIN)/python -m tests.sandbox down --dir $(SANDBOX_DIR)

env: ## make .venv, checked by hash; quick when it is fresh
	@scripts/env.sh

lock: env ## pin the newest allowed versions in requirements/; ARGS="-P NAME" moves one, ARGS=-U all
	@scripts/lock.sh $(ARGS)

format: env ## let Ruff format the code and fix what it safely can
	@$(BIN)/ruff format -q $(CODE)
	@$(BIN)/ruff check -q --fix $(CODE)

lint: env ## Ruff: lint and format
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)

types: env ## mypy, strict
	@$(BIN)/mypy

imports: env ## the import contracts: cli, daemon, edges or engine, core, model
	@$(BIN)/lint-imports --no-cache

fast: env ## the fast tests alone; ARGS="-k plan" for some of them
	@$(BIN)/python -m pytest -q -n $(WORKERS) -m "not real and not slow and not bench" $(FAST_TESTS) $(ARGS)

clean: ## remove everything that make made, .venv included; stop the sandbox first
	@if [ -d '$(SANDBOX_DIR)' ]; then \
	    if [ -x $(BIN)/python ]; then $(BIN)/python -m tests.sandbox down --dir $(SANDBOX_DIR) || true; fi; \
	fi
	@rm -rf .venv .venv.lock .sandbox site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find gitsyncd tests docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
