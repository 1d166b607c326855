# `make demo` and `make test` do all the set-up themselves: .venv has transformers 4.57, .venv5 has 5.
PYTHON ?= python3
BIN = .venv/bin
# Not the core: real data, the demo and its packages, what does not depend on transformers and takes long, and what needs both versions.
CORE = -m "not slow and not long" --ignore=tests/demo/test_texts.py --ignore=tests/demo/test_e5_small.py --ignore=tests/test_recipes.py \
	--ignore=tests/texts/test_corpus_counts.py --ignore=tests/test_versions.py

# A file a worker at a time, one thread each: tiny models gain nothing from more.
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n auto --dist loadfile

.PHONY: demo lint test test5 test-long test-lowest clean

demo: .venv/installed
	$(BIN)/accelerate launch -q -m hf_lrcompress compress --lang sk --config demo

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint .venv5/installed
	LRCOMPRESS_OTHER_PYTHON=.venv5/bin/python $(call PYTEST,.venv)
	$(MAKE) test5

test5: .venv5/installed
	$(call PYTEST,.venv5) $(CORE)

test-long: .venv/installed
	$(call PYTEST,.venv) -m long

test-lowest: .venvlowest/installed
	$(call PYTEST,.venvlowest) $(CORE)

.venv%/installed: setup.cfg constraints-%.txt
	$(PYTHON) -m venv .venv$*
	.venv$*/bin/pip install -q -c constraints-$*.txt torch
	.venv$*/bin/pip install -q -c constraints-$*.txt -e ".[eval,test]"
	touch $@

.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[demo,eval,adapters,test]"
	touch $@

clean:
	rm -rf .venv* build *.egg-info
