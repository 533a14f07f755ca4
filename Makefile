# Everything a fresh machine needs is Python 3.11+ (venv), make, git and curl.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: help demo serve test check lint types format bench proof constraints clean

help: ## Show what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(VENV)/.runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) install -e '.[dev]'
	@touch $@

demo: $(VENV)/.runtime ## Ingest two bundled documents and answer three questions from them
	@$(BIN)/sourcebook demo

serve: $(VENV)/.runtime ## Start the server on 127.0.0.1:8000
	@$(BIN)/sourcebook serve

test: $(VENV)/.dev ## Run the tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: lint types ## Lint and types

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Run every benchmark, and print its ratios
	@for script in startup ingest search stream load; do $(BIN)/python bench/$$script.py || exit 1; done

proof: $(VENV)/.dev ## What takes longer than a test should: many kills, slow bombs, many made-up requests, a generated client
	SOURCEBOOK_KILLS=50 $(BIN)/python -m pytest tests/kill tests/core/test_generations.py
	SOURCEBOOK_PROOF=1 $(BIN)/python -m pytest tests/hostile tests/client tests/api/test_openapi.py tests/api/test_stateful.py

constraints: ## Pin every dependency anew (needs uv)
	uv pip compile --universal --no-header --no-annotate --python-version 3.11 --all-extras pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
