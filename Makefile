# Works from a fresh clone with Python 3.11 or newer, its pip, and make. Another Python: make test PYTHON=python3.13

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test check docs bench soak clean

# Material for MkDocs announces its successor at each run.
export NO_MKDOCS_2_WARNING := 1

help:
	@echo "make demo    transfers between bank accounts in several processes, for ten seconds"
	@echo "make test    the tests"
	@echo "make check   style, types, and the documentation as a site"
	@echo "make docs    serves the documentation, and follows changes of it"
	@echo "make bench   the performance promises, each as a ratio to a bare loop"
	@echo "make soak    the property tests with a large budget; takes long"

demo: .venv/installed
	@$(BIN)/factfold demo

test: .venv/installed
	@$(BIN)/pytest -n 2 --dist worksteal

check: .venv/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/mkdocs build --quiet --strict

docs: .venv/installed
	@$(BIN)/mkdocs serve

bench: .venv/installed
	@$(BIN)/python -m benchmarks

soak: .venv/installed
	@FACTFOLD_SOAK=1 $(BIN)/pytest -o faulthandler_timeout=7200 tests/properties

clean:
	@rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist site

# Installed with exact versions, the build backend too: a fresh clone behaves like the one that was tested.
.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
		{ echo "factfold needs Python 3.11 or newer; there is no '$(PYTHON)'. Try: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "factfold needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.13" >&2; exit 1; }
	@echo "Installing what factfold needs into .venv (once)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
