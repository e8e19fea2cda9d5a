# Every target sets up what it needs first: a virtual environment in .venv with the extras it wants.
# uv is used where it is installed, else venv and pip. PYTHON, VENV and EXTRAS may be given.

IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
CANDIDATES    := python3 python3.13 python3.12 python3.11 python
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c '$(IS_NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
EXTRAS ?= cpu

# The two ONNX Runtimes exclude each other: an environment that holds one does not get the other.
KIND  := $(if $(findstring gpu,$(EXTRAS)),gpu,cpu)
OTHER := $(if $(findstring gpu,$(EXTRAS)),cpu,gpu)

UV := $(shell command -v uv 2>/dev/null)
ifdef UV
  IS_THERE = $(BIN)/python -c ''
  CREATE  = $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
  INSTALL = $(UV) pip install --quiet --python $(BIN)/python
else
  IS_THERE = $(BIN)/python -c 'import pip'
  CREATE  = $(PYTHON) -m venv $(VENV)
  INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.PHONY: help demo test check bench gpu gpu-measured proto docs format lint types contract containers pages clean

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# An environment that works is kept, whatever Python made it: another one would spoil it.
# The stamps say which extras are installed; they are older than pyproject.toml when it was changed.
$(VENV)/.ready-$(EXTRAS): pyproject.toml
	@$(if $(PYTHON),,echo "vedette: Python 3.11 or newer is needed; none of $(CANDIDATES) is; set PYTHON=" >&2; exit 1)
	@$(PYTHON) -c '$(IS_NEW_ENOUGH)' || { echo "vedette: PYTHON=$(PYTHON) is not Python 3.11 or newer" >&2; exit 1; }
	@test ! -e $(VENV)/.holds-$(OTHER) || { echo "vedette: $(VENV) holds [$(OTHER)], which [$(KIND)] excludes;" \
		"run 'make clean' or give another VENV=" >&2; exit 1; }
	@echo "vedette: setting up $(VENV) with $(if $(UV),uv,venv and pip), extras: $(EXTRAS) (some minutes, once)"
	@$(IS_THERE) 2>/dev/null || $(CREATE)
	@touch $(VENV)/.holds-$(KIND)
	@$(INSTALL) -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.ready-$(EXTRAS)-test: pyproject.toml $(VENV)/.ready-$(EXTRAS)
	@echo "vedette: adding what tests and checks need"
	@$(INSTALL) -e '.[$(EXTRAS),test]'
	@touch $@

DEFAULT_TESTS := not gpu and not browser and not load and not pages

READY      := $(VENV)/.ready-$(EXTRAS)
TEST_READY := $(READY)-test

demo: $(READY)  ## Set up, then show four cameras being watched (ARGS="--help" tells more)
	@$(BIN)/vedette demo $(ARGS)

# What judges time or memory runs when nothing else does; the rest side by side, one more at once than there are cores,
# since many tests wait for a server.
TEST_PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
ALONE = $(shell grep -rlE 'mark\.alone\b' tests --include='test_*.py')

test: $(TEST_READY)  ## Set up, then run the tests (ARGS="-k words" picks some)
ifeq ($(ARGS),)
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m "$(DEFAULT_TESTS) and not alone"
	@$(BIN)/python -m pytest -m "$(DEFAULT_TESTS) and alone" $(ALONE)
else
	@$(BIN)/python -m pytest $(ARGS)
endif

check: format lint types contract containers pages  ## Set up, then check style, types, contract, containers, documents
	@echo "vedette: all checks passed"

format: $(TEST_READY)
	@echo "vedette: format (ruff)"
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }

lint: $(TEST_READY)
	@echo "vedette: lint (ruff)"
	@$(BIN)/ruff check --quiet .

types: $(TEST_READY)
	@echo "vedette: types (mypy, pyright)"
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python

pages: $(TEST_READY)
	@echo "vedette: pages (their commands are run)"
	@$(BIN)/python -m pytest -q --no-header -n $(TEST_PROCESSES) -m pages tests/test_docs.py

contract: $(TEST_READY)
	@echo "vedette: contract (stubs, buf), imports"
	@$(BIN)/python proto/generate.py --check
	@$(BIN)/python proto/check_contract.py
	@$(BIN)/python -m pytest -q --no-header tests/test_imports.py

containers: $(TEST_READY)
	@echo "vedette: containers (hadolint, compose, dashboard)"
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/python deploy/check_deploy.py

proto: $(TEST_READY)  ## Write the stubs of the contract
	@$(BIN)/python proto/generate.py

docs: $(TEST_READY)  ## Write the tables of the documentation that say what the code says
	@$(BIN)/python docs/tables.py

bench: $(TEST_READY)  ## Set up, then measure; prints ratios
	@$(BIN)/python -m bench $(ARGS)

# The GPU's extras exclude the usual ones: they get an environment of their own, and make is called again for it.
GPU_VENV   ?= .venv-gpu
GPU_EXTRAS ?= gpu,nvdec,tensorrt
# What the driver leaves in the system: on a PC or server, on a Jetson, under WSL.
GPU_NODES  := $(wildcard /dev/nvidia[0-9] /dev/nvhost-gpu /dev/dxg)

gpu:  ## With a GPU: set up in .venv-gpu, check, run the GPU tests, then measure (ARGS="--help" tells more)
	@test -n "$(GPU_NODES)" || { echo "vedette: 'make gpu' needs an NVIDIA GPU and its driver; there is none here" \
		"(no /dev/nvidia0, /dev/nvhost-gpu or /dev/dxg). Without one: make bench ARGS='gpu --simulated'" >&2; exit 2; }
	@$(MAKE) --no-print-directory VENV=$(GPU_VENV) EXTRAS=$(GPU_EXTRAS) gpu-measured

gpu-measured: $(TEST_READY)
	@$(BIN)/vedette gpu check --require gpu,cuda-bindings
	@$(BIN)/python -m pytest tests/gpu -m gpu
	@$(BIN)/python -m bench gpu $(ARGS)

clean:  ## Remove the virtual environment and what was written
	rm -rf $(VENV) $(GPU_VENV) out dist build
