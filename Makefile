# Every target sets up what it needs first: a virtual environment in .venv with the extras it wants.
# uv is used where it is installed, else venv and pip. PYTHON and EXTRAS may be given.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
EXTRAS ?= cpu

UV := $(shell command -v uv 2>/dev/null)
ifdef UV
  CREATE  = $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
  INSTALL = $(UV) pip install --quiet --python $(BIN)/python
else
  CREATE  = $(PYTHON) -m venv $(VENV)
  INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.PHONY: help demo test check bench proto format lint types contract containers clean

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The stamps say which extras are installed; they are older than pyproject.toml when it was changed.
$(VENV)/.demo-ready: pyproject.toml
	@echo "vedette: setting up $(VENV) with $(if $(UV),uv,venv and pip), extras: $(EXTRAS)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vedette: Python 3.11 or newer is needed, this is %d.%d; set PYTHON=" % sys.version_info[:2])'
	@$(CREATE)
	@$(INSTALL) -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.test-ready: pyproject.toml $(VENV)/.demo-ready
	@echo "vedette: adding what the tests need"
	@$(INSTALL) -e '.[$(EXTRAS),test]'
	@touch $@

demo: $(VENV)/.demo-ready  ## Set up, then show four cameras being watched
	@$(BIN)/vedette demo $(ARGS)

test: $(VENV)/.test-ready  ## Set up, then run the tests
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test-ready format lint types contract containers  ## Set up, then check style, types, contract and containers
	@echo "vedette: all checks passed"

format lint types contract containers: $(VENV)/.test-ready

format:
	@$(BIN)/ruff format --check .

lint:
	@$(BIN)/ruff check .

types:
	@$(BIN)/mypy
	@$(BIN)/pyright

contract:
	@$(BIN)/python proto/generate.py --check
	@deploy/check-contract

containers:
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/python deploy/check_deploy.py

proto: $(VENV)/.test-ready  ## Write the stubs of the contract
	@$(BIN)/python proto/generate.py

bench: $(VENV)/.test-ready  ## Set up, then measure; prints ratios
	@$(BIN)/python -m bench $(ARGS)

clean:  ## Remove the virtual environment and what was written
	rm -rf $(VENV) out dist build
