# `make demo` and `make test` set up .venv by themselves. The rest is listed by `make help`.
PYTHON ?= python3
BIN := .venv/bin
PYTEST = $(BIN)/pytest -m "not slow" -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock

export XLA_PYTHON_CLIENT_PREALLOCATE ?= false
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help demo test test-slow test-kernels test-wheel docs format lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/demo.stamp  ## one box in a real video becomes a mask in every frame
	$(BIN)/python scripts/demo.py

test: .venv/dev.stamp  ## format check, lint, types, tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

test-slow: .venv/dev.stamp  ## the tests that take minutes
	XLA_FLAGS="--xla_backend_optimization_level=3 $$XLA_FLAGS" $(BIN)/pytest -m slow

test-kernels: .venv/dev.stamp  ## the tests with other kernels of OpenCV and XLA, as on older processors
	OPENCV_CPU_DISABLE=AVX512_SKX,AVX2 $(PYTEST)
	OPENCV_IPP=disabled $(PYTEST)
	XLA_FLAGS=--xla_cpu_max_isa=AVX2 $(PYTEST)

test-wheel: .venv/dev.stamp  ## build the wheel, install it without extras, segment a clip in an empty folder
	$(BIN)/python scripts/check_wheel.py

docs: .venv/dev.stamp  ## build the documentation site into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

format: .venv/dev.stamp  ## format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/dev.stamp  ## pin the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet uv
	echo 'torch==2.13.0' > .venv/torch.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras \
	  --no-emit-index-url --no-annotate --no-header -c .venv/torch.txt pyproject.toml \
	  | grep -vE '^(nvidia|cuda|triton)' > requirements.lock

clean:  ## remove the environment and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .jax_cache demo_output

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "error: Python 3.11 to 3.13 is needed; try make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv .venv

.venv/demo.stamp: .venv/bin/python pyproject.toml requirements.lock
	$(INSTALL) -e '.[demo]'
	touch $@

.venv/dev.stamp: .venv/demo.stamp
	$(INSTALL) -e '.[dev]'
	touch $@
