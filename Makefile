# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= exported/demo

.PHONY: demo test check lint test-all clean

# The embedded default: a real teacher and human-rated reviews, no model hub needed.
demo: $(VENV)/.installed
	$(BIN)/compress --teacher demo --layers 3 --quantize --max-train-rows 2500 --teacher-epochs 2 --epochs 3 --max-rounds 5 \
		--output-dir $(DEMO) --overwrite

# What CI runs: style, types, import contracts, then every test that is not marked slow, in two processes with a thread each.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

check: test

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,tune,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .import_linter_cache
