# Everything happens in .venv; nothing is installed outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One pytest worker has the control plane (tests/kube), the others run everything else.
WORKERS := -n auto --maxprocesses 4 --dist loadgroup

.PHONY: help setup run demo batch-demo test kube-tools unit check lint types layers protos lock fuzz bench-cost bench-routing bench-paper test-vllm clean
.DEFAULT_GOAL := help

help: ## the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## creates the virtual environment from the lock file

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) ## starts a gateway on 127.0.0.1:8081 in front of three simulated model servers; ARGS="--endpoint HOST:PORT …" for yours
	$(BIN)/epp up $(or $(ARGS),--sim 3)

demo: $(STAMP) ## compares round robin with our default policy on a prefix-sharing workload
	$(BIN)/epp demo $(ARGS)

kube-tools: $(STAMP) ## builds etcd, API server, scheduler, Kueue … for tests/kube, once, into ~/.cache/epp/kube (5 to 10 minutes)
	@$(BIN)/python -m tests.kube.tools.build

batch-demo: $(STAMP) ## speech, transcripts, summaries, report: with real Whisper on this machine
	@$(BIN)/python -c 'from tests.speech import librivox; librivox()' || echo "No recordings of human speech available: using espeak-ng only."
	$(BIN)/epp-batch demo $(ARGS)

test: $(STAMP) ## runs all tests except those of real vLLM; builds the control plane of tests/kube if it is missing
	$(BIN)/pytest $(WORKERS) -m "not vllm" $(ARGS)

unit: $(STAMP) ## runs the unit tests
	$(BIN)/pytest $(WORKERS) -q tests/unit $(ARGS)

check: lint types layers ## checks format, lint, types, import contracts, generated files

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python protos/build.py --check

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

protos: $(STAMP) ## generates epp/pb from protos/
	$(BIN)/python protos/build.py

fuzz: $(STAMP) ## fuzzes the transport and the session for a bounded time
	$(BIN)/python tests/fuzz/run.py $(ARGS)

bench-cost: $(STAMP) ## measures CPU, latency and memory of the picker behind real Envoy, against bench/limits.yaml
	$(BIN)/python -m bench.cost $(ARGS)

bench-routing: $(STAMP) ## compares TTFT, hit rate and balance of configurations, in virtual time
	$(BIN)/python -m bench.routing $(ARGS)

bench-paper: $(STAMP) ## runs the paper's 32 jobs in virtual time; ARGS="--real --docs" on a real control plane too
	$(BIN)/python -m bench.paper $(ARGS)

test-vllm: $(STAMP) ## tests real vLLM on CPU behind `epp up`: three tiny servers, and a small model that writes a summary
	@$(BIN)/python tests/vllm/install.py; code=$$?; if [ $$code = 3 ]; then exit 0; fi; exit $$code
	@test ! -x .venv-vllm/bin/vllm || $(BIN)/pytest -q -s -m vllm tests/vllm $(ARGS)

lock: $(STAMP) ## resolves requirements/dev.txt from pyproject.toml
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-emit-package endpoint-picker -o requirements/dev.txt

clean: ## removes what was built here
	rm -rf $(VENV) build .cache bench/out *.egg-info
