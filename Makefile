# The two commands of the README are `make demo` and `make test`; both install what they need.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast check leaderboard bench format clean

demo: $(STAMP)  ## run the embedded study, print the leaderboard
	@$(BIN)/promptgrid demo

test: $(STAMP)  ## all tests that need no GPU
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu" -n $(WORKERS) --dist loadgroup

test-fast: $(STAMP)  ## the fast tier only
	@$(BIN)/python -m pytest

check: $(STAMP)  ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

leaderboard: $(STAMP)  ## results/openmoji is what its records give; AGAINST=REV: and what changed since
	@$(BIN)/promptgrid leaderboard --check $(if $(AGAINST),--against $(AGAINST))

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP)  ## speed, as ratios against a baseline in the same run
	@$(BIN)/python -m bench.speed

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"promptgrid needs Python 3.11 or newer, $(PYTHON) is {v.major}.{v.minor}; try make PYTHON=python3.11" if v < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mllm,test,check]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
