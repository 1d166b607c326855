# `make demo` and `make test` do all the set-up themselves: .venv has transformers 5; .venv4 has 4.57 and the library adapters.
PYTHON ?= python3
BIN = .venv/bin
# Not the core: real data, the demo and its packages, what needs both versions, two processes, and what takes long and hardly asks transformers.
NOT_CORE = demo export studies distillation/test_two_processes.py evaluation/test_side_by_side.py test_full_disk.py test_recipes.py test_command.py test_versions.py test_any_input.py test_gpu_benchmark.py \
	test_killed_runs.py test_machine.py test_notebook.py test_quality_benchmark.py test_structure.py texts/test_corpus_counts.py texts/test_languages.py
CORE = -m "not slow and not long and not once" $(NOT_CORE:%=--ignore=tests/%)

# A file a worker at a time, in the order of conftest.py, one thread each: tiny models gain nothing from more.
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: demo lint test test4 test-long test-lowest clean

demo: .venv/installed
	$(BIN)/accelerate launch -q -m hf_lrcompress compress --lang sk --config demo

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit -q -r -c pyproject.toml hf_lrcompress recipes
	$(BIN)/python tests/pinned_versions.py

test:
	$(MAKE) -j2 lint .venv4/installed
	LRCOMPRESS_OTHER_PYTHON=.venv4/bin/python $(call PYTEST,.venv)
	$(MAKE) test4

test4: .venv4/installed
	$(call PYTEST,.venv4) $(CORE)

test-long: .venv/installed .venv4/installed
	$(call PYTEST,.venv) -m long -rP  # with what they print: how many cases there were, and how they ended
	$(call PYTEST,.venv4) -m long -rP tests/test_killed_runs.py tests/test_every_architecture.py

test-lowest: .venvlowest/installed
	$(call PYTEST,.venvlowest) $(CORE)

.venv4/installed: | .venv/installed  # pip makes the package's folder of metadata: not two at once
.venv4/installed: EXTRAS = eval,adapters,figures,test
.venvlowest/installed: EXTRAS = eval,figures,test
.venv%/installed: setup.cfg constraints-%.txt
	$(PYTHON) -m venv .venv$*
	.venv$*/bin/pip install -q -c constraints-$*.txt torch
	.venv$*/bin/pip install -q -c constraints-$*.txt -e ".[$(EXTRAS)]"
	touch $@

.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[demo,eval,figures,onnx,test]"
	touch $@

clean:
	rm -rf .venv* build *.egg-info
