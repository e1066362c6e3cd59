# Everything a developer runs. `make` alone says what there is.

PYTHON      ?= python3
VENV        ?= .venv
JOBS        ?= 2
# How long `make bench` may spend on the quality suite; what it has done it does not do again.
HOURS       ?= 1
# For a build of torch that the configured index does not have, for example the CPU build:
# the address of the index to take torch, and only torch, from.
TORCH_INDEX ?=

BIN   := $(VENV)/bin
PIP   := $(BIN)/python -m pip --disable-pip-version-check
HASH  := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
READY := $(VENV)/.ready-$(HASH)
DEV   := $(VENV)/.ready-dev-$(HASH)
DOCS  := $(VENV)/.ready-docs-$(HASH)
PIN    = $(shell grep '^$(1)==' constraints.txt)

# One thread per process: the tests start several, and small tensors gain nothing from more.
test soak: export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench soak format clean

help:  ## say what there is (this list)
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' \
	  | awk -F '|' '{ printf "  make %-8s %s\n", $$1, $$2 }'

demo: $(READY)  ## see the whole of it on made-up data, about 3 minutes
	rm -rf demo  # what an earlier demo made
	$(BIN)/labelmend demo --out demo

test: $(DEV)  ## run every test except the long proofs
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: $(DEV)  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports

docs: $(DOCS)  ## build the pages into site/
	$(BIN)/mkdocs build --strict --quiet

bench: $(READY)  ## measure speed and memory; results land in benchmarks/results/
	@set -e; for file in benchmarks/bench_*.py; do \
	  test -e "$$file" || { echo "no benchmarks/bench_*.py yet"; exit 1; }; \
	  echo "== $$file"; $(BIN)/python "$$file"; \
	done
	$(BIN)/python benchmarks/quality.py --hours $(HOURS)

soak: $(DEV)  ## the long proofs: hours
	$(BIN)/python -m pytest -n $(JOBS) -m soak --timeout=14400
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -n $(JOBS) tests/laws --timeout=14400

format: $(DEV)  ## lay the code out and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built or measured, and the environment
	rm -rf $(VENV) build dist site demo src/*.egg-info .pytest_cache .mypy_cache .ruff_cache \
	  .hypothesis .import_linter_cache
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up. The stamps carry a hash of what was asked for, so nothing is installed twice, and a
# change of pyproject.toml or constraints.txt is. torch comes first and by itself: its download is
# the long one, and a build that is already there is then left alone.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "labelmend needs Python 3.11 or newer; say which: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "$(call PIN,pip)"
	$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(call PIN,torch)"
	$(PIP) install --quiet -c constraints.txt -e .
	@rm -f $(VENV)/.ready-*
	@touch $@

$(DEV): $(READY)
	$(PIP) install --quiet -c constraints.txt -e ".[all]" --group dev
	@touch $@

$(DOCS): $(READY)
	$(PIP) install --quiet -c constraints.txt --group docs
	@touch $@
