# The index of verbs. `make` alone lists them.
#
#   make study                 the main job: the study that this machine can run, and its report
#   make study STUDY=smoke     another study (a name in studies/, or a file)
#   make study RUNNER=process  engines as processes, or in containers (RUNNER=container), whatever
#                              there is; PROFILE=cpu or gpu; IMAGES="vllm=my/image:tag ..."
#   make study RESUME=1        resume a study that was interrupted; LIMIT=20 ends after 20 minutes
#   make test                  everything that can be tested without starting an engine

PYTHON ?= python3
STUDY ?=
RUNNER ?=
PROFILE ?=
IMAGES ?=
RESUME ?=
LIMIT ?=
RUN_OPTIONS = $(if $(RUNNER),--runner $(RUNNER)) $(if $(PROFILE),--profile $(PROFILE)) \
	$(foreach image,$(IMAGES),--image $(image)) \
	$(if $(RESUME),--resume) $(if $(LIMIT),--limit $(LIMIT))
WORKERS ?= 2
SECONDS ?= 60
REQUESTS ?= 1000000
QUICK := not engine and not containers and not slow
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
.PHONY: help setup study decompose phases plan report wandb doctor down lint schema guides
.PHONY: test test-slow test-engines test-containers test-faults fuzz soak
.PHONY: bench-server bench-client bench-sampler bench-tools bench-report bench-statistics bench-aa clean
.PHONY: $(ENGINES:%=bench-%) $(ENGINES:%=kv-%)

help: ## list the verbs and the engines
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18
	@echo "bench-ENGINE      run one engine ($(ENGINES)) and print its numbers"
	@echo "kv-ENGINE         where its memory goes, and when it is full"

study: $(VENV)/.ready ## run the study for this machine (or STUDY=...) and write its report
	@$(BIN)/enginebench study $(STUDY) $(RUN_OPTIONS)

decompose: $(VENV)/.ready ## which optimization gives what: on the GPU, or without one on the CPU
	@$(BIN)/enginebench study decompose-$(if $(wildcard /dev/nvidia0),gpu,cpu) $(RUN_OPTIONS)

phases: $(VENV)/.ready ## prefill and decode against their lengths, on a CPU
	@$(BIN)/enginebench study phases-cpu $(RUN_OPTIONS)

plan: $(VENV)/.ready ## print what a study would run, and for how long
	@$(BIN)/enginebench plan $(STUDY) $(if $(RUNNER),--runner $(RUNNER))

report: $(VENV)/.ready ## rebuild the report of the latest study (or DIR=...) from its raw files
	@$(BIN)/enginebench report $(DIR)

doctor: $(VENV)/.ready ## what this machine has of what a study needs, and what it lacks
	@$(BIN)/enginebench doctor

down: $(VENV)/.ready ## remove the containers and networks of all studies, also those started by hand
	@$(BIN)/enginebench down

wandb: $(VENV)/.ready-wandb ## log the latest study (or DIR=...) to W&B; offline without a key
	@$(BIN)/enginebench wandb $(DIR)

setup: $(VENV)/.ready ## install the engines' own Python environments
	@$(BIN)/enginebench setup

$(ENGINES:%=bench-%): bench-%: $(VENV)/.ready
	@$(BIN)/python $*/metrics.py $(if $(STUDY),--study $(STUDY)) $(RUN_OPTIONS)

$(ENGINES:%=kv-%): kv-%: $(VENV)/.ready
	@$(BIN)/python $*/kv_cache.py $(if $(STUDY),--study $(STUDY)) $(RUN_OPTIONS)

# Tests that measure times run by themselves, after the others. Exit code 5: ARGS chose none of them.
test: $(VENV)/.ready-dev ## run the tests that start no engine
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m '$(QUICK) and not serial' $(ARGS) \
		|| [ $$? = 5 ]
	@$(BIN)/python -m pytest -q -m '$(QUICK) and serial' $(ARGS) || [ $$? = 5 ]

test-slow: $(VENV)/.ready-dev ## run those of them that take seconds each
	@$(BIN)/python -m pytest -q -m slow $(ARGS)

test-engines: $(VENV)/.ready-dev ## run the tests that start real engines (minutes)
	@$(BIN)/enginebench setup --device cpu baseline vllm
	@$(BIN)/python -m pytest -q -m engine $(ARGS)

test-containers: $(VENV)/.ready-dev ## run the tests of the container runner (needs Docker; minutes)
	@.ci/images small
	@$(BIN)/python -m pytest -q -m containers $(ARGS)

test-faults: $(VENV)/.ready-dev ## make faults for real, and kill a study at random moments (minutes)
	@$(BIN)/python tests/faults/run.py $(ARGS)

fuzz: $(VENV)/.ready-dev ## fuzz every input reader for SECONDS=60 each
	@$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) $(ARGS)

soak: $(VENV)/.ready-dev ## send REQUESTS=1000000 to a scripted server and watch the memory
	@$(BIN)/python benchmarks/soak.py --requests $(REQUESTS) $(ARGS)

lint: $(VENV)/.ready-dev ## ruff, mypy, and the rule which stage may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

schema: $(VENV)/.ready ## write docs/schema anew from the types of the record
	@$(BIN)/python -m enginebench.record.json_schema docs/schema

guides: $(VENV)/.ready ## write the tables of docs/guides anew from the published studies
	@$(BIN)/python -m enginebench.report.guides docs/guides results/published

bench-server: $(VENV)/.ready ## what serving over HTTP costs the baseline
	@$(BIN)/python benchmarks/baseline_overhead.py

bench-client: $(VENV)/.ready ## how far off the load generator is, beside other clients
	@$(BIN)/python benchmarks/client.py $(if $(PART),--part $(PART))

bench-tools: $(VENV)/.ready ## our account of `vllm bench serve` beside the real one
	@$(BIN)/python benchmarks/other_tools.py

bench-report: $(VENV)/.ready ## how a report's time and memory grow with the requests
	@$(BIN)/python benchmarks/scale.py $(ARGS)

bench-statistics: $(VENV)/.ready ## simulated studies with known truth: coverage, family-wise error, order, attribution
	@$(BIN)/python benchmarks/simulated_studies.py $(ARGS)
	@$(BIN)/python benchmarks/attributed_studies.py $(ARGS)

bench-aa: $(VENV)/.ready ## one engine under four names, and how often it is called apart
	@$(BIN)/enginebench study aa-cpu $(RUN_OPTIONS)
	@$(BIN)/python benchmarks/same_engine.py $$(ls -td results/*-aa-cpu* | head -1)

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
