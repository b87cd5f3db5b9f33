# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON chooses the interpreter (3.11 or later) of the virtual environment, which is made on the first use.

PYTHON ?= python3
VENV ?= .venv
# Processes for the tests: more than processors, since many tests wait most of the time.
WORKERS ?= $(shell expr $$(nproc) + 2)
# A process that has done its tests takes some of another's.
BESIDE := --numprocesses $(WORKERS) --dist worksteal
# One for each version of Python.
WHEEL ?= .venv-wheel-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
DIST ?= .venv-dist
SDIST_TESTS ?= tests/wire tests/pki tests/fuzz tests/test_public_names.py tests/test_distributions.py
WHEEL_PIP = $(WHEEL)/bin/python -m pip --quiet --disable-pip-version-check
WHEEL_TESTS ?= tests/native tests/pickling/adapters tests/attacks/test_pickles.py
SANITIZED_TESTS := tests/native tests/pickling/test_vet.py tests/pickling/test_unpickler.py tests/pickling/test_elide.py \
	tests/pickling/test_key_costs.py tests/pickling/test_dict_keys.py tests/pickling/test_differential.py \
	tests/pickling/test_fuzz.py
COVERING := not (test_dangerous or any_split or both_ways_keep or twin_refuses or every_bit or what_its_pickler_makes or any_pieces \
	or changed_byte or opens_nothing or every_mutant or every_allocation or encode_then_decode or charge_covers or test_mutants \
	or honest_keys or random_opcodes or refusing_is_quick or found_again or flipped_bit or probes_are_those or million_ints)
PURE_TESTS ?= tests/native tests/pickling tests/attacks/test_pickles.py tests/conformance/test_requests.py
NATIVE := src/sealwire/native/.compiled
OLDEST ?= .venv-oldest
OLDEST_TESTS := tests/pki tests/trust tests/integrations tests/pickling/adapters tests/dtls/test_contexts.py \
	tests/cli/test_app.py tests/cli/test_options.py tests/cli/keys
CORPUS ?= .fuzz-corpus
SECONDS ?= 60
# What is fuzzed: names in tests/fuzz, or nothing for all.
TARGET ?=
HOURS ?= 8
STEPS ?= 1000000
PROCESSES ?= $(shell nproc)
MODULES ?=
ROTATIONS ?= 20
REQUESTS ?= 100000
SHELL := /bin/bash
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Tests start some hundred interpreters, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help audit demo test test-pure test-wheel test-sanitized test-oldest coverage fuzz fuzz-nightly attack model mutants soak-rotation native check check-types format bench docs dist test-sdist changelog clean

help:
	@echo "make demo    a throwaway CA, a server, clients, and the attacks that fail (needs the network only to install)"
	@echo "make test    the whole test suite"
	@echo "make native  compile the native core in place (needs a C compiler); a part of what the other targets do"
	@echo "make test-pure   the tests of the pickling package and of all servers, without the native core, and hostile"
	@echo "                 pickles on each interpreter from 3.11 that is found"
	@echo "make test-wheel   the tests of the native core and of all types, of a wheel as users install it; for any PYTHON=..."
	@echo "make dist    source distribution, wheels and bills of materials, in dist/, checked"
	@echo "make changelog   what changelog.d makes of CHANGELOG.md; RELEASE=1 writes it"
	@echo "make test-sdist   a part of the tests, of the unpacked source distribution"
	@echo "make test-sanitized   the same, of a native core that stops at undefined behaviour or a wrong address"
	@echo "make coverage    the branches of wire and pickling that their tests take, which must be all"
	@echo "make test-oldest   the tests of what uses other packages, with the oldest versions that are allowed"
	@echo "make fuzz    coverage-guided fuzzing of all that strangers, peers and files can send, SECONDS=60 for each target;"
	@echo "             TARGET=frames for one of them, QUICK=1 for some thousand inputs of each"
	@echo "make fuzz-nightly   the same for HOURS=8 altogether, and the corpora made small"
	@echo "make attack  an attacker behind TLS takes STEPS=1000000 steps, and finds the flaw when a field is left out"
	@echo "make model   the handshake in the model checker Spin, and the attacks that it finds when a field is left out"
	@echo "make audit   other people's tools judge running services and the source: docs/reference/audit.md; FAST=1: only services, and no page"
	@echo "make mutants   the tests notice each small change of the code that security depends on; hours, MODULES=wire for a part"
	@echo "make soak-rotation   everything rotates under full load, ROTATIONS=20 times, over REQUESTS=100000"
	@echo "make check   formatting, lint, types, layers"
	@echo "make check-types   a user's program in pyright's strict mode"
	@echo "make bench   Sealwire beside its peers, written to docs/explanation/performance.md; QUICK=1 only to see that it works"
	@echo "make docs    the documentation site, in site/; a warning or a broken link fails"
	@echo "make clean   remove the virtual environment and all caches"

demo: $(VENV)/.runtime
	@$(BIN)/sealwire demo

test: $(VENV)/.development
	@$(BIN)/python -m pytest $(BESIDE)

# Each module of `wire` and `pickling` by its own tests, which take three times as long when they are measured; a half of
# them without the native core. Those that try the same lines many times are left out, and `test_dangerous`: what it
# decodes is decoded in processes of its own, which are not measured.
coverage: $(VENV)/.development
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q -k '$(COVERING)' \
		tests/wire tests/native tests/pickling/adapters tests/pickling/test_[a-e]*.py >.test-covered.log 2>&1 & \
		covered=$$!; SEALWIRE_NATIVE=off $(BIN)/coverage run -m pytest -q -k '$(COVERING)' tests/pickling/test_[f-z]*.py; others=$$?; \
		wait $$covered; covered=$$?; cat .test-covered.log; exit $$((others + covered))
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --include='src/sealwire/wire/*,src/sealwire/pickling/*' --fail-under=100

native: $(NATIVE)

test-pure: $(VENV)/.development
	@SEALWIRE_NATIVE=off $(BIN)/python -m pytest -q $(BESIDE) $(PURE_TESTS)

# A wheel as it is published, in an environment of its own, and a copy of the tests beside no source tree. What it is
# compiled of is what `make test` tests, so that it takes those that look at the native core, and at every type.
test-wheel:
	@test -x $(WHEEL)/bin/python || $(PYTHON) -m venv $(WHEEL)
	@rm -rf $(WHEEL)/dist $(WHEEL)/tests
	@$(WHEEL_PIP) install --upgrade 'pip>=25.1'
	@$(WHEEL_PIP) install --group test
	@! SEALWIRE_NATIVE=require CC=false $(WHEEL_PIP) wheel --no-deps --no-cache-dir --wheel-dir $(WHEEL)/dist . 2>/dev/null
	@CC=false $(WHEEL_PIP) wheel --no-deps --no-cache-dir --wheel-dir $(WHEEL)/dist . && rm $(WHEEL)/dist/*-py3-none-any.whl
	@SEALWIRE_NATIVE=require $(WHEEL_PIP) wheel --no-deps --no-cache-dir --wheel-dir $(WHEEL)/dist .
	@$(WHEEL_PIP) install --force-reinstall --no-deps $(WHEEL)/dist/*.whl
	@$(WHEEL_PIP) install "$$(echo $(WHEEL)/dist/*.whl)[cli]"
	@cp -r tests pyproject.toml $(WHEEL)
	@cd $(WHEEL) && SEALWIRE_NATIVE=require bin/python -m pytest -q $(BESIDE) $(WHEEL_TESTS)

# What is published, but for the wheels of other platforms, which cibuildwheel makes: the source distribution, wheels of
# it with and without the native core, and the bill of materials of an environment with what users need.
dist: $(VENV)/.dist
	@rm -rf dist $(DIST)
	@$(BIN)/towncrier build --draft >/dev/null
	@SEALWIRE_NATIVE=require $(BIN)/python -m build
	@SEALWIRE_NATIVE=off $(BIN)/python -m build --wheel
	@$(BIN)/twine check --strict dist/*
	@$(PYTHON) -m venv --without-pip $(DIST)
	@$(PIP) --python $(DIST)/bin/python install dist/*-py3-none-any.whl
	@$(BIN)/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --mc-type library \
		--output-file dist/environment.cdx.json $(DIST)/bin/python
	@$(BIN)/python tests/support/distributions.py dist

# What the fragments in changelog.d make of CHANGELOG.md; RELEASE=1 writes it, and removes them.
changelog: $(VENV)/.dist
	@$(BIN)/towncrier build $(if $(RELEASE),--yes,--draft)

# The source distribution has all that the tests need: a part of them, in the unpacked one, without the native core.
test-sdist: $(VENV)/.dist
	@rm -rf .sdist && $(BIN)/python -m build --sdist --outdir .sdist >.sdist.log && tar -xzf .sdist/*.tar.gz -C .sdist
	@$(BIN)/python tests/support/distributions.py .sdist
	@cd .sdist/*/ && export SEALWIRE_NATIVE=off PYTHONPATH=$$PWD/src && \
		$(abspath $(BIN))/python -c 'import os, sealwire; assert sealwire.__file__.startswith(os.getcwd())' && \
		$(abspath $(BIN))/python -m pytest -q $(BESIDE) $(SDIST_TESTS)

# A copy of the package beside a native core that the compiler has instrumented. CPython itself has leaks at its end.
# Tests of attacks that bound the memory of processes are not among them: the sanitizer's own needs more.
test-sanitized: $(VENV)/.development
	@rm -rf .sanitized && mkdir .sanitized && cp -r src/sealwire .sanitized && rm -f .sanitized/sealwire/native/*.so
	@CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined" $(BIN)/python hatch_build.py .sanitized
	@LD_PRELOAD=$$($${CC:-cc} -print-file-name=libasan.so) PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0:log_path=$(CURDIR)/.sanitized/report UBSAN_OPTIONS=log_path=$(CURDIR)/.sanitized/report \
		PYTHONPATH=.sanitized SEALWIRE_NATIVE=require $(BIN)/python -m pytest -q --timeout 600 $(BESIDE) $(SANITIZED_TESTS) \
		| tee .sanitized/log; exit $${PIPESTATUS[0]}

# With the oldest allowed version of everything that the package uses, the tests of what uses it.
test-oldest: $(VENV)/.development
	@test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python tests/support/oldest.py >$(OLDEST)/constraints.txt
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/constraints.txt \
		--editable '.[celery,cli,dtls,prometheus]' --group test
	@$(OLDEST)/bin/python -m pytest -q $(OLDEST_TESTS) --ignore tests/integrations/test_celery.py

# What it finds is written beside the corpus of its target, which the next run goes on from.
fuzz: $(VENV)/.fuzz
	@PYTHONPATH=tests $(BIN)/python -m fuzz $(if $(QUICK),--quick,--seconds $(SECONDS)) --corpora $(CORPUS) $(TARGET)

fuzz-nightly: $(VENV)/.fuzz
	@PYTHONPATH=tests $(BIN)/python -m fuzz --hours $(HOURS) --corpora $(CORPUS) $(TARGET)

# Some ten minutes on two processors.
attack: $(VENV)/.development
	@PYTHONPATH=tests $(BIN)/python -m attacker --steps $(STEPS)

# Some minutes, and 2 GB of memory for each processor.
model: $(VENV)/.development
	@PYTHONPATH=tests $(BIN)/python -m model

# Some minutes, since the sanitizers' tests are among them. What is missing of Debian's packages is said on the page.
audit: $(VENV)/.development .venv-audit/.audit$(if $(FAST),-services)
	@PYTHONPATH=tests $(BIN)/python -m audit $(if $(FAST),--fast,--write docs/reference/audit.md)

# Some hours. Their own tests must notice each mutant of these packages, AGAIN=1 for those alone that survived the last time, or were not reached.
mutants: $(VENV)/.mutants
	@PYTHONPATH=tests $(BIN)/python -m mutation --processes $(PROCESSES) $(if $(AGAIN),--again) $(MODULES)

# The whole proof takes some six minutes, and must fail without reloading.
soak-rotation: $(VENV)/.development
	@$(BIN)/python tests/soak/rotation.py --rotations $(ROTATIONS) --requests $(REQUESTS)
	@if $(BIN)/python tests/soak/rotation.py --rotations 1 --requests 1 --without-reloading >.soak.log 2>&1; \
		then echo "it passed without reloading, so that it proves nothing"; exit 1; \
		else echo "and fails without reloading, as it must: $$(grep ^failed: .soak.log)"; fi

check: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# A user's program, in pyright's strict mode. basedpyright is pyright with a Node.js of its own.
check-types: $(VENV)/.types
	$(BIN)/basedpyright --pythonpath $(BIN)/python -p tests/typing

format: $(VENV)/.development
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Some ten minutes on two processors, and the figures of a busy machine mislead. QUICK=1 takes two and writes no page.
bench: $(VENV)/.bench
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick,--write --json docs/explanation/performance.json)
	@$(if $(QUICK),true,$(BIN)/python benchmarks/codec.py && $(BIN)/python benchmarks/arrays.py)

# A warning is an error. The second command checks what Sphinx does not: links of the finished pages, and the reference.
docs: $(VENV)/.docs
	@rm -rf site
	@$(BIN)/python -m sphinx -q -W --keep-going -c docs -d .doctrees . site
	@$(BIN)/python docs/check_site.py site

clean:
	rm -rf $(VENV) .venv-audit site .doctrees .venv-wheel-* $(DIST) dist .sdist .sdist.log .sanitized src/sealwire/native/*.so $(NATIVE) $(OLDEST) $(CORPUS) .mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache .coverage .coverage.*

# The demo has what users have, and no more, so that it starts quickly and proves what they get.
$(VENV)/.runtime: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Sealwire needs Python 3.11 or later; choose it with PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --editable '.[cli]'
	@touch $@

$(VENV)/.development: $(VENV)/.runtime | $(NATIVE)
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --group dev
	@touch $@

# Where it cannot be compiled, the tests run without it, unless SEALWIRE_NATIVE=require.
$(NATIVE): hatch_build.py $(wildcard src/sealwire/native/*.pyx src/sealwire/native/*.pxd) | $(VENV)/.runtime
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --group native
	@$(BIN)/python hatch_build.py
	@touch $@

$(VENV)/.bench: $(VENV)/.development
	@$(PIP) install --group bench
	@touch $@

.venv-audit/.audit .venv-audit/.audit-services: pyproject.toml
	@test -x .venv-audit/bin/python || $(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check --group $(subst .,,$(@F))
	@touch $@

$(VENV)/.types: $(VENV)/.development
	@$(PIP) install --group types
	@touch $@

$(VENV)/.docs: $(VENV)/.development
	@$(PIP) install --group docs
	@touch $@

$(VENV)/.dist: $(VENV)/.development
	@$(PIP) install --group dist
	@touch $@

$(VENV)/.fuzz: $(VENV)/.development
	@$(PIP) install --group fuzz
	@touch $@

$(VENV)/.mutants: $(VENV)/.development
	@$(PIP) install --group mutants
	@touch $@
