# The menu. `make` alone prints it. Everything runs in .venv, which is made on first use.
.DEFAULT_GOAL := help
.PHONY: help run train test lint bench soak emulate layer deploy-aws clean

PYTHON ?= python3
PORT ?= 8080
NODE := tests/node/node_modules/.package-lock.json
BIN := .venv/bin
# A .pyc beside each source: without it scikit-learn takes three times as long to import.
unexport PYTHONDONTWRITEBYTECODE
export PORT
# Who names a model of their own needs no example.
EXAMPLE := $(if $(MODEL_URI),,models/credit/latest)

help: ## this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/training $(EXAMPLE) ## set up, train the example if there is none, serve it on PORT (8080)
	exec $(BIN)/gunicorn --config python:serving.adapters.gunicorn 'serving.adapters.flask:create_app()'

train: .venv/training ## train the example again
	$(BIN)/python -m training train

emulate: .venv/training $(EXAMPLE) ## one function alone, as Google Cloud runs it: make emulate FUNCTION=predict
	PYTHONPATH=. exec $(BIN)/functions-framework --source functions/$(FUNCTION).py --target $(FUNCTION)

test: .venv/tests $(NODE) lint ## set up, check types and style, run the tests
	$(BIN)/python -m pytest

lint: .venv/tests ## types and style only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/tests models/credit/latest ## measure it beside its peers; takes some minutes, needs wrk
	$(BIN)/python -m tests.bench

soak: .venv/tests models/credit/latest ## minutes at the highest rate it holds, and with workers being killed
	$(BIN)/python -m tests.bench.soak

layer: .venv/layer ## the AWS Lambda layer's zip: make layer ARCH=arm64 PYTHON_VERSION=3.13 ENGINE=onnx
	$(BIN)/python -m layer.build --arch $(ARCH) --python $(PYTHON_VERSION) --engine $(ENGINE)

deploy-aws: layer $(NODE) ## the functions and what they need, to AWS: make deploy-aws STAGE=prod
	tests/node/node_modules/.bin/osls deploy --verbose --stage $(STAGE)

clean: ## remove .venv, the models, the layers and what npm installed
	rm -rf .venv models layer/dist layer/.cache tests/node/node_modules

FUNCTION ?= predict
STAGE ?= dev
ARCH ?= arm64
PYTHON_VERSION ?= 3.13
ENGINE ?= onnx

models/credit/latest: | .venv/training
	$(BIN)/python -m training train

# One stamp for each set of requirements; a change in any of them, or in layer/, installs again.
LAYER := layer/pyproject.toml $(shell find layer/python -name '*.py')

.venv/training: requirements.txt training/requirements.txt $(LAYER) | .venv/bin
	$(BIN)/python -m pip install --quiet --requirement training/requirements.txt
	touch $@

.venv/layer: .venv/training layer/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement layer/requirements.txt
	touch $@

.venv/tests: .venv/layer tests/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@

# The command lines of the platforms; npm writes this file when all is there.
$(NODE): tests/node/package.json tests/node/package-lock.json
	@command -v npm > /dev/null || echo "Canoa: without npm (Node 20) the tests of platforms and stores are skipped."
	! command -v npm > /dev/null || npm ci --prefix tests/node --ignore-scripts --no-audit --no-fund --loglevel=error
	mkdir -p $(@D) && touch $@

.venv/bin:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Canoa needs Python 3.11 or newer.")'
	$(PYTHON) -m venv .venv
