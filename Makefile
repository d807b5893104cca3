# Everything that a fresh machine with Python 3.11 or newer and make needs. PYTHON=… picks the interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEER := build/imagecorruptions

.PHONY: demo test lint types check bench gpu docs outputs notebook clean

demo: $(INSTALLED)  ## the main job on the embedded sample: stress, predict, score, record
	$(BIN)/bench run --suite corruption --model resnet18-smooth

test: lint types check  ## what CI runs

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos

types: $(INSTALLED)
	$(BIN)/mypy

check: $(INSTALLED)  # two processes of one thread each: most tests wait for a command or compute little
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal
	OMP_NUM_THREADS=1 $(BIN)/pytest --doctest-modules benchmark plugins/stressbench_plugins suites

bench: $(INSTALLED) $(PEER)  ## speed on this machine: the table of docs/performance.md, and what has no goal
	$(BIN)/python tests/bench/table.py
	$(BIN)/python tests/bench/bench_startup.py
	$(BIN)/python tests/bench/bench_perturbation.py
	$(BIN)/python tests/bench/bench_draws.py
	$(BIN)/python tests/bench/bench_locations.py
	$(BIN)/python tests/bench/bench_sizes.py
	$(BIN)/python tests/bench/bench_training.py

gpu: $(INSTALLED) $(PEER)  ## on a machine with a GPU: its tests, the table of speed, the study's records; again to resume
	$(BIN)/python tests/bench/gpu.py

docs: $(INSTALLED)  ## the documentation site, in build/site; broken links are errors
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

outputs: $(INSTALLED)  ## the console output that the README and the docs show
	$(BIN)/python -m cogapp -r -P -I docs README.md docs/*.md

notebook: $(INSTALLED)  ## the notebook in docs/, executed again
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python docs/execute.py

# The public package that the engine is compared with; it needs libraries of its time. Without it, the line is left out.
$(PEER):
	-$(PYTHON) -m venv $(PEER) && $(PEER)/bin/python -m pip install --quiet --disable-pip-version-check \
		imagecorruptions==1.1.2 'scikit-image==0.20.*' 'numpy<1.24' 'opencv-python-headless<4.9' 'setuptools<70' \
		|| rm -rf $(PEER)

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stressbench needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	# The tests compare with torchattacks; without its pins, which this environment has no use for.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'torchattacks>=3.5.1' 'pyautoattack>=0.2.0'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
