# Everything runs in an environment that is made once from the pins in constraints.txt.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The peers of the benchmarks have an environment of their own.
PEERS ?= .venv-peers
PEERS_READY := $(PEERS)/.ready
# So has scvi-tools.
CELLS ?= .venv-cells
CELLS_READY := $(CELLS)/.ready

# The site needs Sphinx, in the same environment.
DOCS_READY := $(VENV)/.ready-docs

# Threads of the tests and the notebooks sleep soon, as those of a command beside others do: see ppl_vae/cli/process.py.
slow docs: export GOMP_SPINCOUNT ?= 1000

.PHONY: fit test lint slow drill docs bench scale cells clean

fit: $(READY)
	$(BIN)/python -m ppl_vae.fit --guide amortized --overwrite

# One process per core, with one thread each. A file stays in one process, so that the fits that its tests share are
# made once.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(DOCS_READY)
	$(BIN)/python -m pytest -m slow

drill: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.drill --page

# The site, in docs/_build/html. Every notebook is executed unless its text is unchanged; no network is needed.
docs: $(DOCS_READY)
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

bench: $(READY) $(PEERS_READY)
	$(BIN)/python benchmarks/bench.py --peers $(PEERS)/bin/python $(if $(ISA),--isa $(ISA))

cells: $(READY) $(CELLS_READY)
	$(BIN)/python benchmarks/cells.py --peer $(CELLS)/bin/python

scale: $(READY)
	$(BIN)/python benchmarks/scale.py

# PyTorch is installed first and alone; otherwise a package could bring a newer build with gigabytes of CUDA libraries.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ppl_vae needs Python 3.11 or newer; make PYTHON=python3.12 names another")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

$(PEERS_READY): benchmarks/peers/requirements.txt | $(READY)
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< torch
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(CELLS_READY): benchmarks/peers/requirements-cells.txt | $(READY)
	test -x $(CELLS)/bin/python || $(PYTHON) -m venv $(CELLS)
	$(CELLS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< torch
	$(CELLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) $(CELLS)
