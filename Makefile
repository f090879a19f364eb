# Everything works from a fresh clone with python3 (3.11 or newer) and make: the first target that needs it
# makes .venv and installs the project there.
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
STAMP := $(VENV)/.installed
JOBS ?= 0
# three on two cores: tests that run notebooks, engines and browsers wait a quarter of their time
WORKERS ?= 3
PROFILE ?= default
EXAMPLES ?= 10000

.PHONY: help reproduce test lab notebooks lint clean unit validate fuzz determinism test-cluster
.DEFAULT_GOAL := help

help:
	@echo "make reproduce   run every notebook that is not up to date; PROFILE=quick|default|full|claims|paper, JOBS=n"
	@echo "make test        ruff, mypy, unit tests, and the notebooks as they are committed; WORKERS=n"
	@echo "make lab         JupyterLab on the notebooks"
	@echo "make notebooks   execute the committed notebooks in place, where code changed"
	@echo "make lint        ruff and mypy only"
	@echo "make test-cluster  the same jobs on a SLURM of one node, where its programs are installed"
	@echo "make fuzz        files that are right, damaged and hostile at every door, drawn anew; EXAMPLES=10000, about an hour"
	@echo "make determinism the quick profile with one job and with two, compared bit for bit; about 40 min"
	@echo "make clean       remove results/ and tool caches (not .venv, not the data cache)"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; `$(PYTHON) --version 2>&1` was found. Use: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module does not work; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing the project into $(VENV): some minutes the first time, and 9 GB of disk: torch is large"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

reproduce: $(STAMP)
	@$(BIN)/xmodal reproduce --jobs $(JOBS) --profile $(PROFILE)

notebooks: $(STAMP)
	@$(BIN)/xmodal notebooks

lab: $(STAMP)
	@$(BIN)/jupyter lab notebooks/00_start_here.ipynb

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy xmodal_lib

unit: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/browser/chromium.sh
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope

# one thread, as `xmodal reproduce` gives a job: small matrices gain nothing from more
unit validate fuzz: export OMP_NUM_THREADS ?= 1
unit validate fuzz: export XMODAL_HEADLESS = 1

# nbval runs the notebooks as committed; it compares the cells tagged nbval-check-output
validate: $(STAMP)
	$(BIN)/python -m pytest --nbval-lax --nbval-kernel-name python3 --nbval-sanitize-with tests/nbval.cfg \
	  --nbval-cell-timeout 900 -W default -p no:cacheprovider -n $(WORKERS) --dist loadscope notebooks

fuzz: $(STAMP)
	XMODAL_FUZZ=$(EXAMPLES) $(BIN)/python -m pytest -n $(WORKERS) tests/fuzz

determinism: $(STAMP)
	$(BIN)/python -m tests.runs.determinism --profile quick

test: lint unit validate
	@echo "all passed: ruff, mypy, unit tests, notebooks"

# on a SLURM of one node, which tests/cluster/cluster.sh starts; says what is missing, and installs nothing
test-cluster: $(STAMP)
	XMODAL_CLUSTER=1 $(BIN)/python -m pytest -s tests/cluster

clean:
	rm -rf results .pytest_cache .mypy_cache .ruff_cache .hypothesis notebooks/.ipynb_checkpoints
