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

# a .venv of another Python would stay what it is, whatever PYTHON is set to after
$(VENV)/installed: setup.py
	@$(PYTHON) -c 'import sys; old = sys.version_info < (3, 11); \
		sys.exit(old and "Python 3.11 or newer is needed: set PYTHON, as in make demo PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@
