# make demo   a portrait and a voice become output/demo.mp4
# make test   all tests, those against a real ComfyUI included
# make comfy  a ComfyUI with these nodes, from nothing (CPU unless COMFY_ARGS says otherwise)

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8188
COMFY_ARGS ?= --cpu
# Two spinning OpenMP threads slow small networks down a hundredfold on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
RUN := $(BIN)/python

.PHONY: demo test bench comfy clean

demo: $(VENV)/.run-ready
	$(RUN) -m playmate_core demo

test: $(VENV)/.test-ready
	$(RUN) -m pytest --cov --cov-report=term --cov-fail-under=90

bench: $(VENV)/.run-ready
	$(RUN) -m laboratory.benchmarks

comfy: $(VENV)/.test-ready
	$(RUN) -m tests.comfy_server --port $(PORT) -- $(COMFY_ARGS)

# constraints.txt holds a matching torch trio for this environment only; a user's ComfyUI keeps its own.
$(VENV)/.run-ready: requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/.test-ready: $(VENV)/.run-ready pyproject.toml
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[test,train,comfy]" -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) .comfyui output build *.egg-info
