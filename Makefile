# `make demo` and `make test` do all the set-up themselves, in .venv.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test clean

demo: .venv/installed
	$(BIN)/accelerate launch -q recipes/compress.py --lang sk --config recipes/configs/demo.yaml

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[demo,eval,adapters,test]"
	touch $@

clean:
	rm -rf .venv build *.egg-info
