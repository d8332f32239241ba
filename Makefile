# Everything runs from a local environment in .venv; nothing is installed outside this folder.
#
#   make demo      a real primary and two standbys, audited, broken, audited again
#   make test      lint, types, import contracts and all tests but the long ones
#   make test-all  the long ones too
#   make soak      at least 1,000 audits of random histories, every verdict judged
#   make bench     measure the figures, against reladiff among others, into benchmarks/
#   make check     the part of `make test` that needs no servers
#   make picture   play the demo for the README and docs/demo.svg
#   make screens   draw the pictures of the screen, docs/watch-*.svg, from a recorded feed
#   make sample    live through some minutes of a lab cluster for docs/period-report.html and its pictures
#   make clean     remove the environment and all caches
#
# PYTHON=/path/to/python3 chooses the interpreter; PYTEST_ARGS="-k lanes" goes to pytest, SOAK_ARGS="--replay 42/7"
# to the soak, BENCH_ARGS="--only digest" to the benchmarks. REPLCHECK_SCALE_GB=10 makes the one large relation of
# `make test-all` so many GiB instead of two.

SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV_PYTHON := .venv/bin/python
STAMP := .venv/installed-in
CORE_TESTS := tests/core tests/test_architecture.py tests/test_docs.py
PYTEST_ARGS ?=
# Two processes, each with one half of the tests in their order, so that each starts few clusters; -n 0 undoes it.
WORKERS := -n 2 --dist worksteal
SOAK_ARGS ?=
BENCH_ARGS ?=
BENCH_PYTHON := .venv-bench/bin/python

# An environment knows the folder it was made for; one that was moved, or lost its interpreter, is made anew.
ifneq ($(shell $(VENV_PYTHON) -c 'import os; print(open("$(STAMP)").read() == os.getcwd())' 2>/dev/null),True)
.PHONY: $(STAMP)
endif

.PHONY: help demo picture screens sample test test-all soak bench check static clean
help:
	@sed -n 's/^#   //p' Makefile

demo: $(STAMP)
	$(VENV_PYTHON) -m replcheck demo
	@command -v replcheck >/dev/null || echo 'Here replcheck is .venv/bin/replcheck; ". .venv/bin/activate" puts it on your path.'

picture: $(STAMP)
	$(VENV_PYTHON) scripts/picture.py

screens: $(STAMP)
	$(VENV_PYTHON) -m scripts.screens

sample: $(STAMP)
	$(VENV_PYTHON) -m scripts.period_report

check: static
	$(VENV_PYTHON) -m pytest $(CORE_TESTS) $(PYTEST_ARGS)

test: static
	$(VENV_PYTHON) -m pytest $(WORKERS) -m "not long" $(PYTEST_ARGS)

test-all: static
	$(VENV_PYTHON) -m pytest $(WORKERS) $(PYTEST_ARGS)

soak: $(STAMP)
	$(VENV_PYTHON) -m tests.soak $(SOAK_ARGS)

bench: $(STAMP) .venv-bench/installed
	$(VENV_PYTHON) -m benchmarks $(BENCH_ARGS)

static: $(STAMP)
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

clean:
	rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@set -e; found=; \
	for python in "$$PYTHON" python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	    test -n "$$python" || continue; \
	    if "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found="$$python"; break; \
	    fi; \
	done; \
	if test -z "$$found"; then \
	    echo "make: no Python 3.11 or newer with the venv and ensurepip modules was found" >&2; \
	    echo "make: install one (Debian and Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	rm -rf .venv; \
	"$$found" -m venv .venv; \
	echo "make: installing into .venv with $$($(VENV_PYTHON) --version)"; \
	export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore; \
	$(VENV_PYTHON) -m pip install --quiet -c constraints.txt setuptools; \
	$(VENV_PYTHON) -m pip install --quiet --no-build-isolation -c constraints.txt -e '.[lab,dev]'; \
	$(VENV_PYTHON) -c 'import os; open("$(STAMP)", "w").write(os.getcwd())'

# The tool that is measured against is installed apart from replcheck and its dependencies.
.venv-bench/installed: benchmarks/reladiff.txt $(STAMP)
	rm -rf .venv-bench
	$(VENV_PYTHON) -m venv .venv-bench
	PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
	    $(BENCH_PYTHON) -m pip install --quiet --no-deps -r benchmarks/reladiff.txt
	touch $@
