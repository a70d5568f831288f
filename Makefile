# make demo: install, fill a simulated set with images from the bundled model, write a gallery of all models
# make test: install with the test tools, then run every test
# make lint: style and types
# make bench: speed of start-up, sampling and writing
# make gpu-check: check and time everything on one GPU, in eight minutes; WHEELS=DIR installs what is missing from there
# make docs: build the documentation into docs/_build; a warning fails it
# make readme: write the README's tables anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# One thread a process: two test processes on two cores are faster than one that uses both.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# Those that need no images of the user's own.
BENCH := startup models sampling variations augment_memory metrics classifiers contract frozen

.PHONY: demo test lint bench gpu-check docs readme clean

demo: $(VENV)/installed
	$(BIN)/medzoo augment --gen ddpm-var --to 24 --out demo
	$(BIN)/medzoo gallery demo-gallery

test: $(VENV)/installed-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-dev
	for name in $(BENCH); do $(BIN)/python bench/$$name.py || exit 1; done

gpu-check:
	$(if $(filter file,$(origin PYTHON)),$(or $(wildcard $(BIN)/python),$(PYTHON)),$(PYTHON)) bench/gpu_check.py $(if $(WHEELS),--wheels $(WHEELS)) $(OPTIONS)

docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx -q -E -a -W --keep-going docs docs/_build

readme: $(VENV)/installed-dev
	$(BIN)/python docs/readme_tables.py

clean:
	rm -rf $(VENV) demo demo.contact-sheet.png demo-gallery dist docs/_build docs/reference .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing medzoo into $(VENV) (torch is large: some minutes on a slow line)"
	$(PIP) --editable '.[imagenet]'
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing medzoo and its test tools into $(VENV) (torch is large: some minutes on a slow line)"
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/installed
