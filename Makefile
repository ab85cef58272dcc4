# Everything a newcomer needs: `make serve` and `make test`. Python 3.11 or newer and make.

SHELL := /bin/sh
VENV  := .venv
BIN   := $(VENV)/bin
PIP   := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS  ?=

.DEFAULT_GOAL := help
.PHONY: help serve test test-bucket test-postgresql test-scaled check format bench docs clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

serve: $(VENV)/.installed ## make the environment, install, start the archive
	$(BIN)/fileroom serve $(ARGS)

test: $(VENV)/.installed-test ## install what the tests need, run all of them (ARGS="-k word" for some)
	$(BIN)/python -m pytest -q -n 4 --dist loadgroup $(ARGS)

test-bucket: $(VENV)/.installed-test ## the same with objects in a bucket, if an object storage server is installed
	$(BIN)/python -m tests.servers -- $(BIN)/python -m pytest -q -n 4 --dist loadgroup $(ARGS)

test-postgresql: $(VENV)/.installed-test ## run all of them with indexes in PostgreSQL, whose programs must be installed
	TEST_INDEX=postgresql $(BIN)/python -m pytest -q -n 4 --dist loadgroup $(ARGS)

test-scaled: $(VENV)/.installed-test ## both at once: indexes in PostgreSQL, objects in a bucket
	TEST_INDEX=postgresql $(BIN)/python -m tests.servers -- $(BIN)/python -m pytest -q -n 4 --dist loadgroup $(ARGS)

check: $(VENV)/.installed-check ## formatter, linter, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-check ## let the formatter write
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-test ## measure ingest, retrieval and growth, small (ARGS to choose)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.installed-test ## write the tables of the conformance statement that follow from the code
	$(BIN)/python -m dimse.statement

clean: ## remove the environment and caches; data stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info

$(BIN)/python:
	@for python in python3.13 python3.12 python3.11 python3.14 python3; do \
	  if command -v $$python >/dev/null 2>&1 && \
	     $$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "Fileroom needs Python 3.11 or newer with its venv module; none was found." >&2; exit 1

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing (once)"; { $(PIP) -e '.[codecs]' || \
	  { echo "without the extra codecs, which cannot be had here" >&2; $(PIP) -e .; }; } && touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "installing what the tests need (once)"; $(PIP) -e '.[codecs,test]' && touch $@ $(VENV)/.installed

$(VENV)/.installed-check: pyproject.toml | $(BIN)/python
	@echo "installing the checkers (once)"; $(PIP) -e '.[codecs,test,check]' && touch $@ $(VENV)/.installed $(VENV)/.installed-test
