# What people type. `make` alone lists the targets.
SHELL := /bin/bash
RUN_PYTHON := .venv/bin/python

# No usage reports from a checkout, whatever the libraries' defaults are.
export DO_NOT_TRACK := 1
export BENTOML_DO_NOT_TRACK := True
export PREFECT_SERVER_ANALYTICS_ENABLED := false

# Some images forbid Python to keep bytecode; every run of the tests would then compile them, and what is not yet, again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-all lint format bench image lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## .venv with the locked dependencies

# Installs again only when these change.
.venv/.installed: pyproject.toml requirements.lock
	@.ci/setup

demo: setup ## train on the built-in digits, serve, classify a picture over HTTP, stop
	@$(RUN_PYTHON) examples/demo.py

test: setup ## the test suite, in less than 90 s
	@OMP_NUM_THREADS=1 $(RUN_PYTHON) -m pytest -n 2 --dist loadfile

test-all: setup ## and the marked tests: Prefect server, browser, slow; those of a GPU where one is
	@.ci/need chromium
	@.ci/need pg_createcluster postgresql
	@OMP_NUM_THREADS=1 $(RUN_PYTHON) -m pytest -m 'not network' -n 2 --dist loadfile

lint: setup ## ruff and mypy
	@$(RUN_PYTHON) -m ruff check .
	@$(RUN_PYTHON) -m ruff format --check .
	@$(RUN_PYTHON) -m mypy

format: setup ## what lint asks for, as far as ruff can do it
	@$(RUN_PYTHON) -m ruff check --fix .
	@$(RUN_PYTHON) -m ruff format .

# Takes hours; each benchmark can be run by itself, as its first lines say.
bench: setup ## the benchmarks, into benchmarks/results.md
	@$(RUN_PYTHON) -m benchmarks.run_all "$${TRAINSERVE_DATA:-../shared/data}"

image: ## build the serving image, start it, ask it over HTTP, stop it, state its size
	@.ci/image

lock: setup ## resolve requirements.lock anew, after a change in pyproject.toml
	@.venv/bin/uv pip compile pyproject.toml --extra train --extra dev --universal --python-version 3.11 \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock

clean: ## remove .venv and caches; models and runs stay
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
