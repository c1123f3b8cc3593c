# The index of verbs. `make` alone lists them.
#
#   make study                 the main job: the study that this machine can run, and its report
#   make study STUDY=smoke     another study (a name in studies/, or a file)
#   make test                  everything that can be tested without starting an engine

PYTHON ?= python3
STUDY ?=
VENV := .venv
BIN := $(VENV)/bin
ENGINES := $(sort $(patsubst %/launch.yaml,%,$(wildcard */launch.yaml)))

# A directory called vllm must never answer to `import vllm`: see tests/test_layout.py.
export PYTHONSAFEPATH := 1
unexport PYTHONPATH
export WANDB_DIR := results

# Tokens reach engines through the environment only; .env.example says which there are.
-include .env
export HF_TOKEN
wandb: export WANDB_API_KEY := $(WANDB_API_KEY)

.DEFAULT_GOAL := help
.PHONY: help setup study plan report wandb test test-engines lint bench-server bench-client bench-sampler bench-tools bench-report clean
.PHONY: $(ENGINES:%=bench-%) $(ENGINES:%=kv-%)

help: ## list the verbs and the engines
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18
	@echo "bench-ENGINE      run one engine ($(ENGINES)) and print its numbers"
	@echo "kv-ENGINE         where its memory goes, and when it runs out of room"

study: $(VENV)/.ready ## run the study for this machine (or STUDY=...) and write its report
	@$(BIN)/enginebench study $(STUDY)

plan: $(VENV)/.ready ## print what a study would run, and for how long
	@$(BIN)/enginebench plan $(STUDY)

report: $(VENV)/.ready ## rebuild the report of the latest study (or DIR=...) from its raw files
	@$(BIN)/enginebench report $(DIR)

wandb: $(VENV)/.ready-wandb ## log the latest study (or DIR=...) to W&B; offline without a key
	@$(BIN)/enginebench wandb $(DIR)

setup: $(VENV)/.ready ## install the engines' own Python environments
	@$(BIN)/enginebench setup

$(ENGINES:%=bench-%): bench-%: $(VENV)/.ready
	@$(BIN)/python $*/metrics.py $(if $(STUDY),--study $(STUDY))

$(ENGINES:%=kv-%): kv-%: $(VENV)/.ready
	@$(BIN)/python $*/kv_cache.py $(if $(STUDY),--study $(STUDY))

test: $(VENV)/.ready-dev ## run the tests that start no engine
	@$(BIN)/python -m pytest -q $(ARGS)

test-engines: $(VENV)/.ready-dev ## run the tests that start real engines (minutes)
	@$(BIN)/enginebench setup --device cpu baseline vllm
	@$(BIN)/python -m pytest -q -m engine $(ARGS)

lint: $(VENV)/.ready-dev ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench-server: $(VENV)/.ready ## what serving over HTTP costs the baseline
	@$(BIN)/python benchmarks/baseline_overhead.py

bench-client: $(VENV)/.ready ## how far off the load generator is, beside other clients
	@$(BIN)/python benchmarks/client.py $(if $(PART),--part $(PART))

bench-tools: $(VENV)/.ready ## our account of `vllm bench serve` beside the real one
	@$(BIN)/python benchmarks/other_tools.py

bench-report: $(VENV)/.ready ## how a report's time and memory grow with the requests
	@$(BIN)/python benchmarks/scale.py $(ARGS)

bench-sampler: $(VENV)/.ready ## what watching memory and GPUs costs, and takes from an engine
	@$(BIN)/python benchmarks/sampler_cost.py

clean: ## remove the environments and models made here; results stay
	rm -rf $(VENV) .cache

# The harness's own environment is light: no torch, no transformers, no engine.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "enginebench needs Python 3.11 or newer, found " + sys.version.split()[0] + "; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "installing the harness into $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -e . -c constraints.txt
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@echo "installing the test tools into $(VENV) (once) ..."
	@$(BIN)/python -m pip install -q -e '.[dev]' -c constraints.txt
	@touch $@

$(VENV)/.ready-wandb: $(VENV)/.ready
	@echo "installing W&B into $(VENV) (once) ..."
	@$(BIN)/python -m pip install -q -e '.[wandb]' -c constraints.txt
	@touch $@
