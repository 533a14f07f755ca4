# Everything a fresh machine needs is Python 3.11+ (venv), make, git and curl.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: help demo serve test slow browser check lint types format docs bench proof torture interop cluster constraints clean

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

# A file a worker: what a module starts is started once. One more than there are cores, as tests also wait.
TESTERS := $(shell $(PYTHON) -c 'import os; print(min(4, 1 + os.cpu_count()))')
PYTEST := -n $(TESTERS) --dist loadfile
test: $(VENV)/.dev ## Run the tests
	$(BIN)/python -m pytest $(PYTEST) -m "not slow and not cluster and not browser"

slow: $(VENV)/.dev ## Run what takes longer than a few seconds each: crashes at every write, kills, bombs, benchmarks
	$(BIN)/python -m pytest $(PYTEST) -m "slow and not browser and not proof"

cluster: $(VENV)/.dev ## Two servers and two workers on PostgreSQL behind nginx: kills and restarts under load
	$(BIN)/python -m pytest -m cluster -rs -s tests/cluster

BROWSER := -n 2 --dist loadfile -rs tests/browser
browser: $(VENV)/.dev ## Drive a real Chromium through the page, where there is one (apt.txt names the packages)
	$(BIN)/python -m pytest $(BROWSER) -m "browser and not slow"

check: lint types ## Lint and types

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## Build a site of the documentation, in build/site
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/site
	@echo "build/site/README.html"

bench: $(VENV)/.dev ## Run every benchmark, and print its ratios
	@for script in startup plugins ingest search stream load parse page; do $(BIN)/python bench/$$script.py || exit 1; done

proof: $(VENV)/.dev ## What takes longer than a test should: kills, faults, slow bombs, clients that go away, made-up requests
	SOURCEBOOK_KILLS=50 $(BIN)/python -m pytest tests/kill tests/core/test_generations.py \
		tests/core/test_reindexing.py
	$(BIN)/python -m pytest $(PYTEST) -m "slow and not browser"
	$(BIN)/python -m pytest $(BROWSER) -m browser
	SOURCEBOOK_PROOF=1 $(BIN)/python -m pytest tests/hostile tests/client \
		tests/api/test_openapi.py tests/api/test_stateful.py tests/api/test_hostile.py
	SOURCEBOOK_DROPS=1000 $(BIN)/python -m pytest --timeout 1800 tests/api/test_drops.py

KILLS ?= 1000
torture: $(VENV)/.dev ## Kill a server KILLS times (default 1000); SOURCEBOOK_SEED plays a run again
	SOURCEBOOK_KILLS=$(KILLS) $(BIN)/python -m pytest -s -o timeout=0 tests/kill/test_kill.py tests/kill/test_workers.py

# A venv and npm packages of their own, about 2 GB. TORCH names the build, where a smaller one is at hand.
INTEROP ?= .venv-interop
TORCH   ?= torch
$(INTEROP)/.made:
	$(PYTHON) -m venv $(INTEROP)
	PIP_CONSTRAINT= $(INTEROP)/bin/pip install -q 'litellm[proxy]' 'transformers[serving]' '$(TORCH)' openai
	npm install --silent --no-audit --no-fund --prefix $(INTEROP)/npm ai @ai-sdk/openai-compatible zod
	@touch $@

interop: $(VENV)/.dev $(INTEROP)/.made ## Real model servers before us, real OpenAI clients behind us
	SOURCEBOOK_PYTHON=$(abspath $(BIN)/python) INTEROP_NODE_MODULES=$(abspath $(INTEROP))/npm/node_modules \
		$(INTEROP)/bin/python tests/interop/check.py

# All but sentence-transformers: which torch it brings, for which processor, is the operator's to choose.
PINNED := dev docs fastembed mcp ocr onnx otel postgres qdrant-server s3 testing tokenizers
constraints: ## Pin every dependency anew (needs uv)
	uv pip compile --universal --no-header --no-annotate --python-version 3.11 $(PINNED:%=--extra %) pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) $(INTEROP) build dist .mypy_cache .ruff_cache .pytest_cache
