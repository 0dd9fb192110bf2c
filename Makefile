# The menu. `make` alone prints it. Everything runs in .venv, which is made on first use.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run train emulate check test test-all test-rest lint bench bench-score soak layer deploy-aws clean

PYTHON ?= python3
PORT ?= 8080
NODE := tests/node/node_modules/.package-lock.json
BIN := .venv/bin
# Python writes a .pyc beside each source: without it scikit-learn takes three times as long to import.
unexport PYTHONDONTWRITEBYTECODE
export PORT
# The example is trained only where no other model is named.
EXAMPLE := $(if $(MODEL_URI),,models/credit/latest)
# A row of the example, in the order of its features.
ROW := [9, "rent", 60, 30, "married", "no", "freelance", 73, 129, 0, 0, 800, 846]
BODY := -H 'Content-Type: application/json' -d '{"instances": [$(ROW)]}'
SAY := @printf 'Canoa: %s\n'

help: ## this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: export CURL = curl -s localhost:$(PORT)$(if $(MODEL_URI),/health,/v0/predict $(BODY))
run: .venv/training $(EXAMPLE) ## set up, train the example if there is none, serve it on PORT (8080)
	$(SAY) 'starting the server; Ctrl-C stops it. Open http://localhost:$(PORT) or try'
	@echo "$$CURL"
	@exec $(BIN)/gunicorn --config python:serving.adapters.gunicorn 'serving.adapters.flask:create_app()'

train: .venv/training ## train the example again
	$(BIN)/python -m training train

emulate: .venv/training $(EXAMPLE) ## one function alone, as Google Cloud runs it: make emulate FUNCTION=predict
	PYTHONPATH=. exec $(BIN)/functions-framework --source functions/$(FUNCTION).py --target $(FUNCTION)

check: lint ## style, types, and the tests that start no process: under a minute
	$(PYTEST) -m "not slow" --no-processes -r fE

test: lint $(NODE) ## check, and the tests of all rooms: six minutes
	$(PYTEST) -m "not slow"

test-all: test test-rest ## every test: CONTRIBUTING.md lists what this adds

# One test at a time: some of these measure time or memory.
test-rest: .venv/tests $(NODE)
	$(BIN)/python -m pytest -m slow

lint: .venv/tests ## types and style only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/tests models/credit/latest ## measure it beside its peers; takes some minutes, needs wrk
	$(BIN)/python -m tests.bench

bench-score: .venv/tests models/credit/latest ## scoring ten million rows, beside onnxruntime and scikit-learn alone
	$(BIN)/python -m tests.bench.score

soak: .venv/tests models/credit/latest ## minutes at the highest rate it holds, and with workers being killed
	$(BIN)/python -m tests.bench.soak

layer: .venv/layer ## the AWS Lambda layer's zip: make layer ARCH=arm64 PYTHON_VERSION=3.13 ENGINE=onnx
	$(BIN)/python -m layer.build --arch $(ARCH) --python $(PYTHON_VERSION) --engine $(ENGINE)

deploy-aws: layer $(NODE) ## the functions and what they need, to AWS: make deploy-aws STAGE=prod
	tests/node/node_modules/.bin/osls deploy --verbose --stage $(STAGE)

clean: ## remove .venv, the models, the layers, what npm installed and what tests keep
	rm -rf .venv models layer/dist tests/node/node_modules .pytest_cache

FUNCTION ?= predict
STAGE ?= dev
ARCH ?= arm64
PYTHON_VERSION ?= 3.13
ENGINE ?= onnx
WORKERS ?= 3
# The tests of one file stay together: they share a server. Three workers keep two cores busy.
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

models/credit/latest: | .venv/training
	$(SAY) 'training the example (10 s) …'
	@$(BIN)/python -m training train

# One stamp for each set of requirements; a change in any of them, or in layer/, installs again.
LAYER := layer/pyproject.toml $(shell find layer/python -type f ! -name '*.pyc')
PIP := @$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement

.venv/training: requirements.txt training/requirements.txt $(LAYER) | .venv/bin
	$(SAY) 'installing what serves and trains (1 minute) …'
	$(PIP) training/requirements.txt
	@touch $@

.venv/layer: .venv/training layer/requirements.txt
	$(SAY) 'installing what builds the layer (5 s) …'
	$(PIP) layer/requirements.txt
	@touch $@

.venv/tests: .venv/layer tests/requirements.txt
	$(SAY) 'installing what the tests need (1 minute) …'
	$(PIP) tests/requirements.txt
	@touch $@

# The command lines of the platforms; npm writes this file when all is there.
$(NODE): tests/node/package.json tests/node/package-lock.json
	@if command -v npm > /dev/null; then \
	  echo 'Canoa: installing the command lines of the platforms by npm (1 minute) …'; \
	  npm ci --prefix tests/node --ignore-scripts --no-audit --no-fund --loglevel=error; \
	else \
	  echo 'Canoa: npm (Node 20) is not there: some tests of platforms and stores are skipped.'; \
	fi
	@mkdir -p $(@D) && touch $@

.venv/bin:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Canoa needs Python 3.11 or newer.")'
	$(SAY) 'making .venv (5 s) …'
	@$(PYTHON) -m venv .venv
