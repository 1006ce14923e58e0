# A fresh machine needs Python 3.11 (or 3.12) and make, nothing else.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.PHONY: help run lint test test-slow bench clean

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3.11 python3 python3.12; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && command -v $$p && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCHED := .venv/.benched

WORLD ?= logit
USERS ?= 20000
SEED ?= 7
LOGS ?=
ARGS ?=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(INSTALLED) ## Run the whole pipeline on a simulated world (WORLD, USERS, SEED) or on yours (LOGS=DIR); ARGS adds options
ifdef LOGS
	@at=$$(cd "$(LOGS)" && pwd -P) || { echo "error: LOGS=$(LOGS) is not a folder" >&2; exit 1; }; \
	$(BIN)/alm-mta run --logs "$(LOGS)" --workdir "work/$${at##*/}-$$(printf %s "$$at" | cksum | cut -d' ' -f1)" $(ARGS)
else
	@$(MAKE) work/$(WORLD)/.simulated-$(USERS)-$(SEED)
	@$(BIN)/alm-mta run --logs work/$(WORLD)/logs --workdir work/$(WORLD) $(ARGS)
endif

work/$(WORLD)/.simulated-$(USERS)-$(SEED): | $(INSTALLED)
	@rm -rf work/$(WORLD)/logs work/$(WORLD)/.simulated-* && mkdir -p work/$(WORLD)
	@$(BIN)/alm-mta simulate --world $(WORLD) --users $(USERS) --seed $(SEED) --out work/$(WORLD)/logs
	@touch $@

lint: $(INSTALLED) ## Check style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint $(BENCHED) ## Lint, then run the fast tests
	$(BIN)/pytest

test-slow: $(BENCHED) ## Run the long end-to-end tests
	$(BIN)/pytest -m slow

bench: $(BENCHED) ## Time every stage on a simulated world (USERS, SEED); results go to benchmarks/results/
	@$(BIN)/python -m benchmarks.speed_stages --users $(USERS) --seed $(SEED) $(ARGS)

clean: ## Remove the venv, caches and build outputs (runs under work/ stay)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One pip command, so that every choice the resolver makes is held to constraints.txt (torch's CPU build above all).
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found: install one, or say PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c '$(SUPPORTED)' || { echo "error: PYTHON=$(PYTHON) is not Python 3.11 or 3.12" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear .venv
	@echo "installing into .venv (a few minutes the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt torch -e '.[ray,k8s,s3,gs,dev]'
	@touch $@

# The benchmark's peers bring 0.8 GB that a run does not need.
$(BENCHED): $(INSTALLED)
	@echo "installing the benchmark's peers into .venv"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[ray,k8s,s3,gs,bench,dev]'
	@touch $@
