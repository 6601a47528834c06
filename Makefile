# Everything happens in .venv; nothing is installed outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One pytest worker has the control plane (tests/kube), the others run everything else.
WORKERS := -n auto --maxprocesses 4 --dist loadgroup

.PHONY: help setup run demo batch-demo test kube-tools unit check lint types layers protos lock fuzz bench-cost bench-routing bench-paper test-vllm clean
.DEFAULT_GOAL := help

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## the virtual environment, from the lock file

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) ## a gateway on 127.0.0.1:8081 in front of three simulated model servers; ARGS="--endpoint HOST:PORT …" for yours
	$(BIN)/epp up $(or $(ARGS),--sim 3)

demo: $(STAMP) ## round robin against our default on a prefix-sharing workload
	$(BIN)/epp demo $(ARGS)

kube-tools: $(STAMP) ## etcd, API server, scheduler, Kueue … for tests/kube, built once into ~/.cache/epp/kube (5 to 10 minutes)
	@$(BIN)/python -m tests.kube.tools.build

batch-demo: $(STAMP) ## speech to transcripts to summaries to a report, with real Whisper on this machine
	@$(BIN)/python -c 'from tests.speech import librivox; librivox()' || echo "No recordings of people to be had: espeak-ng speaks alone."
	$(BIN)/epp-batch demo $(ARGS)

test: $(STAMP) ## all tests but those of real vLLM; those of the control plane, and its build, beside the others
	$(BIN)/pytest $(WORKERS) -m "not vllm" $(ARGS)

unit: $(STAMP) ## the fast part
	$(BIN)/pytest $(WORKERS) -q tests/unit $(ARGS)

check: lint types layers ## lint, types, dependency rule, generated files

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python protos/build.py --check

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

protos: $(STAMP) ## epp/pb from protos/
	$(BIN)/python protos/build.py

fuzz: $(STAMP) ## a bounded fuzz run over the transport and the session
	$(BIN)/python tests/fuzz/run.py $(ARGS)

bench-cost: $(STAMP) ## CPU, latency and memory of the picker behind real Envoy, against bench/limits.yaml
	$(BIN)/python -m bench.cost $(ARGS)

bench-routing: $(STAMP) ## TTFT, hit rate and balance of configurations, in virtual time
	$(BIN)/python -m bench.routing $(ARGS)

bench-paper: $(STAMP) ## the paper's 32 jobs in virtual time; ARGS="--real --docs" on a real control plane too
	$(BIN)/python -m bench.paper $(ARGS)

test-vllm: $(STAMP) ## real vLLM on CPU behind `epp up`: three tiny servers, and a small model that writes a summary
	@$(BIN)/python tests/vllm/install.py; code=$$?; if [ $$code = 3 ]; then exit 0; fi; exit $$code
	@test ! -x .venv-vllm/bin/vllm || $(BIN)/pytest -q -s -m vllm tests/vllm $(ARGS)

lock: $(STAMP) ## requirements/dev.txt anew from pyproject.toml
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-emit-package endpoint-picker -o requirements/dev.txt

clean: ## what was built here
	rm -rf $(VENV) build .cache bench/out *.egg-info
