# Each target does all of its own set-up: a virtual environment in .venv, once for each change of its inputs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-fast coverage lint docs build clean

quickstart: $(VENV)/.ready
	$(BIN)/lightning_neft fit --config recipes/quickstart.yaml

# The slow tests run several processes, compiled graphs and whole runs of the program: a few workers share them.
test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-fast: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 -m "not slow"

# What the tests start is measured too; a process that is killed leaves nothing.
coverage: $(VENV)/.ready
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadgroup
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Any warning ends it: a link that leads nowhere, a name that is not documented, markup that is none.
docs: $(VENV)/.ready
	$(BIN)/sphinx-build -W --keep-going --quiet -b html docs docs/_build/html
	$(BIN)/sphinx-build -W --keep-going --quiet -b doctest docs docs/_build/doctest
	@echo "open docs/_build/html/index.html"

build: $(VENV)/.ready
	$(BIN)/python -m build

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	# litgpt asks for older packages than transformers 5; the model that the tests train needs none of them.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps litgpt
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build runs .pytest_cache .mypy_cache .ruff_cache
