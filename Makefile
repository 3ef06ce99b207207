# Two jobs, each from a bare clone: both make their own .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test

# train, evaluate, save, reload and draw MaskFormer on a generated dataset
demo: $(VENV)/installed
	$(BIN)/python scripts/quickstart.py --output_dir outputs/quickstart --overwrite_output_dir

# a process on each core, each with one thread
test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --durations=10 --numprocesses auto --dist loadfile

$(VENV)/installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@
