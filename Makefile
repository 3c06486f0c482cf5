# memory-operator: `make run` starts it on this machine, `make test` tests it. Both install what they need.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= .memory
PORT ?= 8080
BENCH_ARGS ?=
QUALITY_ARGS ?=
# Four processes, since tests wait more than they work; tests/conftest.py says which ones stay together.
PYTEST = $(BIN)/python -m pytest -n 4 --dist loadgroup
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

# Tests start hundreds of processes: without byte code each would compile all of this first.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run test test-unit test-long mutants images e2e e2e-long kind check format bench bench-large quality generate requirements clean

help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

define installed
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes $(1)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endef

install: $(VENV)/for-tests ## Install everything into .venv, at pinned versions

$(VENV)/for-run: pyproject.toml requirements/dev.txt requirements/build.txt
	$(call installed,-r requirements/dev.txt -r requirements/build.txt)
	@touch $@

# All of the above and more.
$(VENV)/for-tests: pyproject.toml requirements/test.txt
	$(call installed,-r requirements/test.txt)
	@touch $(VENV)/for-run $@

run: $(VENV)/for-run ## Start everything on this machine: database, local model, sample Provider, sample memories
	$(BIN)/memory-operator dev --port $(PORT) --data $(DATA) --sample

test: install ## Run all tests against a real PostgreSQL and a real kube-apiserver (built on first use)
	$(BIN)/python tests/cluster/build.py
	$(PYTEST) -m "not node" --durations=15

test-unit: install ## Run the tests that need no server, in less than a minute
	$(PYTEST) --durations=15 tests/unit

test-long: install ## The promise of the store in long random sequences: 500 of 30 steps, then two more seeds; an hour or two
	for promise in 1:500:30 2:100:30 3:100:30; do printf '%s\n' 1 2 3 4 | MEMORY_PROMISE=$$promise xargs -P 4 -I PART \
		env MEMORY_PROMISE_PART=PART/4 $(BIN)/python -m pytest tests/component/gate/test_promise.py || exit 1; done

mutants: install ## Break the gate in a copy, in each of several ways, and see that the property test notices; an hour
	$(BIN)/python tests/mutants.py

images: install ## Make the images under build/images without a container engine (root, Debian)
	$(BIN)/python tests/e2e/prepare.py --only-images

e2e: install ## Install the chart on a real node and try it there (root, Debian; the first time takes 20 minutes)
	$(BIN)/python tests/e2e/prepare.py
	MEMORY_NODE=required $(BIN)/python -m pytest -m "node and not long" tests/e2e

e2e-long: install ## The chart beside another release, the group's CRD and an older one of ours, on a node; half an hour
	$(BIN)/python tests/e2e/prepare.py
	MEMORY_NODE=required $(BIN)/python -m pytest -m "node and long" tests/e2e

kind: ## Install the chart into a new kind cluster (Docker, kind, kubectl, helm)
	docker build --quiet -f operator/Dockerfile -t memory-operator:$(VERSION) .
	docker build --quiet -f operator/Dockerfile -t memory-postgres:$(VERSION) --target postgres .
	docker build --quiet -f webhook/Dockerfile -t memory-webhook:$(VERSION) .
	kind get clusters | grep -qx memory-operator || kind create cluster --config kind-config.yaml
	kind load docker-image --name memory-operator \
	  memory-operator:$(VERSION) memory-postgres:$(VERSION) memory-webhook:$(VERSION)
	helm --kube-context kind-memory-operator upgrade --install memory-operator helm/memory-operator \
	  --namespace memory --create-namespace --set postgresql.embedded=true \
	  --set api.service.type=NodePort --set api.service.nodePort=30080 --wait

check: install ## Lint, types, walls between folders, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: install ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: install ## Write the generated files: crds/, docs tables
	$(BIN)/python docs/generate.py

bench: install ## Measure; BENCH_ARGS="--only fill" only some of it, BENCH_JSON=file also as JSON (docs/bench.md)
	PYTHONPATH=tests $(BIN)/python -m bench $(BENCH_ARGS)

quality: install ## How good the answers are (docs/retrieval.md); JUDGED=DIR also on the sets in that folder
	PYTHONPATH=tests $(BIN)/python -m quality $(if $(JUDGED),--judged $(JUDGED)) $(QUALITY_ARGS)

bench-large: install ## Queries on a million chunks, whose store is built once and kept in .bench; BENCH_ARGS for other parts
	PYTHONPATH=tests $(BIN)/python -m bench --large $(or $(BENCH_ARGS),--only large)

requirements: ## Pin the dependencies of each image and of the tests, with hashes
	$(PYTHON) -m venv $(VENV)-pin && $(VENV)-pin/bin/pip install --quiet uv
	for name in operator webhook local-e5 postgres build dev test judges; do \
	  if [ $$name = judges ]; then which="--group judges"; else which="--extra $$name pyproject.toml"; fi; \
	  $(VENV)-pin/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-header $$which --output-file requirements/$$name.txt; done
	cd tests/bench && for name in langgraph mem0; do \
	  $(abspath $(VENV)-pin)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-header peers/$$name.in --output-file peers/$$name.txt; done
	rm -rf $(VENV)-pin

clean: ## Remove what was installed; the data in .memory stays
	rm -rf $(VENV)
