# Everything a developer or CI does, by one name each. `make` alone lists the names.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test check covered lint format docs proto bench clean

VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check
# The first Python on the path that is new enough; `make PYTHON=/path/to/python3.12 ...` takes another.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	command -v $(name) >/dev/null 2>&1 && $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
PYTEST_FLAGS ?=
# A file of tests stays in one process, since its fixtures start servers; the slow files come first.
# tests/conftest.py says how many processes.
PYTEST_SPREAD := -n auto --dist loadfile --no-loadscope-reorder

help: ## List what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(VENV)/.installed-run ## Create .venv with everything for one machine without a GPU

setup-dev: $(VENV)/.installed-dev ## The same, with the trainer and the tools for development

demo: setup ## Register a real brain pair on the embedded stack and show the result
	$(BIN)/warpline demo

test: setup-dev ## Run every test; those that need a missing server are skipped
	$(BIN)/python -m pytest $(PYTEST_SPREAD) $(PYTEST_FLAGS)

check: lint test ## What CI runs: lint, types, import contracts, every test

covered: setup-dev ## The tests with branch coverage, in half as much time again
	@$(MAKE) --no-print-directory test PYTEST_FLAGS="--cov --cov-report=term:skip-covered $(PYTEST_FLAGS)"

lint: setup-dev ## Formatting, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto

format: setup-dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup-dev ## Write again what is generated: error table, settings, .env.example, report schema
	$(BIN)/python docs/generate.py

proto: setup-dev ## Generate service/pb again from proto/
	$(BIN)/python proto/generate.py

bench: setup-dev ## Time the kernels against torch and SimpleITK
	$(BIN)/python -m benchmarks.kernels

clean: ## Remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage htmlcov demo-result

$(VENV)/.installed-dev: $(VENV)/.installed-run
	@echo "Installing the trainer and the development tools (once; a few minutes)"
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[all-cpu,demo,trainer,dev]'
	@touch $@

$(VENV)/.installed-run: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing Warpline into $(VENV) (once; a minute or two)"
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[all-cpu,demo]'
	@touch $@

$(VENV)/bin/pip:
	@[ -n "$(PYTHON)" ] || { echo "Warpline needs Python 3.11 or newer, and none was found on the path. Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Warpline needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python cannot create virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
