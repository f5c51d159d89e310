# What people type. `make` alone lists the targets.
SHELL := /bin/bash
PYTHON_IN := .venv/bin/python

# No usage reports from a checkout, whatever the libraries' defaults are.
export DO_NOT_TRACK := 1
export BENTOML_DO_NOT_TRACK := True
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: help setup demo test test-all lint format bench image lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## .venv with the locked dependencies

# Installs again only when these change.
.venv/.installed: pyproject.toml requirements.lock
	@.ci/setup

demo: setup ## train on the built-in digits, serve, classify a picture over HTTP, stop
	@$(PYTHON_IN) examples/demo.py

test: setup ## the test suite
	@$(PYTHON_IN) -m pytest

test-all: setup ## and the marked tests: Prefect server, browser, slow (not: gpu, network)
	@.ci/need chromium
	@$(PYTHON_IN) -m pytest -m 'not gpu and not network'

lint: setup ## ruff and mypy
	@$(PYTHON_IN) -m ruff check .
	@$(PYTHON_IN) -m ruff format --check .
	@$(PYTHON_IN) -m mypy

format: setup ## what lint asks for, as far as ruff can do it
	@$(PYTHON_IN) -m ruff check --fix .
	@$(PYTHON_IN) -m ruff format .

bench: setup ## the benchmarks, into benchmarks/results.md
	@$(PYTHON_IN) -m benchmarks.run_all

image: ## build the serving image, start it, ask it over HTTP, stop it, state its size
	@.ci/image

lock: setup ## resolve requirements.lock anew, after a change in pyproject.toml
	@.venv/bin/uv pip compile pyproject.toml --extra train --extra dev --universal --python-version 3.11 \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock

clean: ## remove .venv and caches; models and runs stay
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
