# make demo   a portrait and a voice become output/demo.mp4
# make check  lint, types, layers and the fast tests: a minute and a half on two cores
# make test   all tests, those of the registry's archive in a real ComfyUI included: ten minutes on two cores
# make looks  sheets to look at in output/looks: emotions, mouths, LivePortrait's pictures beside ours (PORTRAITS="..." for more)
# make comfy  a ComfyUI with these nodes, from nothing (CPU unless COMFY_ARGS says otherwise)

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8188
COMFY_ARGS ?= --cpu
# Workers that run tests side by side, one thread each (see tests/conftest.py): one a core, eight at most.
JOBS ?= logical
# Two spinning OpenMP threads slow small networks down a hundredfold on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
RUN := $(BIN)/python

.PHONY: demo check lint types test bench looks comfy clean

demo: $(VENV)/.run-ready
	$(RUN) -m playmate_core demo

PYTEST := $(RUN) -m pytest --numprocesses=$(JOBS) --maxprocesses=8 --dist=loadfile

check: lint types $(VENV)/.test-ready
	$(PYTEST) -m "not slow and not comfy"

lint: $(VENV)/.test-ready
	$(RUN) -m ruff check .

# Under a name of its own, since the folder that ComfyUI loads as a package may have any.
types: $(VENV)/.test-ready
	mkdir -p .mypy_cache/under && ln -sfn ../.. .mypy_cache/under/playmate
	cd .mypy_cache/under && MYPYPATH=. $(abspath $(RUN)) -m mypy --config-file ../../pyproject.toml \
		--cache-dir .. -p playmate.playmate_core -p playmate.nodes

# With COVERAGE=1 (as CI does) also the coverage of what ships, wherever it runs: in workers, commands, and in the ComfyUI
# that the tests start. Following every line takes a third more time before Python 3.12.
test: $(VENV)/.test-ready
	$(PYTEST) --durations=20 $(if $(COVERAGE),--cov --cov-report=term --cov-fail-under=90)

bench: $(VENV)/.run-ready
	$(RUN) -m laboratory.benchmarks

# The sample portrait and, where the shared folder is (PLAYMATE_SHARED), its portrait too; PORTRAITS="FILE ..." adds more.
looks: $(VENV)/.test-ready
	$(RUN) -m laboratory.looks $(if $(PORTRAITS),--more $(PORTRAITS)) $(LOOKS_ARGS)

comfy: $(VENV)/.test-ready
	$(RUN) -m tests.comfy_server --port $(PORT) -- $(COMFY_ARGS)

# constraints.txt holds a matching torch trio for this environment only; a user's ComfyUI keeps its own.
$(VENV)/.run-ready: requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/.test-ready: $(VENV)/.run-ready pyproject.toml
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[test,lint,train,comfy]" -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) .comfyui .mypy_cache output build *.egg-info
