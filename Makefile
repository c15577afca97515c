# make demo: train, evaluate and offload on the embedded data. make test: lint, types and tests. Needs
# Python 3.11 and make. Tests run in two processes of one thread each.
PYTHON ?= python3.11
BIN := .venv/bin

# Where nothing keeps compiled modules, every program that a test starts compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast results clean

demo: .venv/ready
	$(BIN)/python train.py
	$(BIN)/python evaluate.py
	$(BIN)/python offload_bench.py

test: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow or not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-fast: .venv/ready
	$(BIN)/python -m pytest

# Builds the tables of README and docs again from the result files in results/.
results: .venv/ready
	$(BIN)/python -m benchmarks.readme

.venv/ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv==0.13.8
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

clean:
	rm -rf .venv outputs
