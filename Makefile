# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON chooses the interpreter (3.11 or later) of the virtual environment, which is made on the first use.

PYTHON ?= python3
VENV ?= .venv
# Parts of the suite that run beside the rest: one that computes, and two with processes and sockets. Coverage of SERVER_TESTS is
# not measured: it is of the servers, and that of `wire` and `pickling` is what is enforced.
CODEC_TESTS := tests/pickling tests/attacks/test_pickles.py
SERVER_TESTS := tests/conformance tests/aio
COMMAND_TESTS := tests/cli tests/test_how_to.py tests/test_readme.py tests/test_examples.py tests/attacks/test_crowd.py \
	tests/attacks/test_frames_to_server.py tests/attacks/test_frames_to_client.py tests/attacks/test_strangers.py
COMPILED ?= .venv-compiled
CORPUS ?= .fuzz-corpus
SECONDS ?= 60
ROTATIONS ?= 20
REQUESTS ?= 100000
FUZZ_UNTIL ?= -max_total_time=$(SECONDS)
SHELL := /bin/bash
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help demo test test-compiled fuzz soak-rotation check format bench clean

help:
	@echo "make demo    a throwaway CA, a server, clients, and the attacks that fail (needs the network only to install)"
	@echo "make test    the whole test suite"
	@echo "make test-compiled   the tests of the pickling package, with its vetting pass compiled by mypyc (needs a C compiler)"
	@echo "make fuzz    coverage-guided fuzzing of the decoder, for SECONDS=60 or longer"
	@echo "make soak-rotation   everything rotates under full load, ROTATIONS=20 times, over REQUESTS=100000"
	@echo "make check   formatting, lint, types, layers"
	@echo "make bench   benchmarks beside what they are compared to"
	@echo "make clean   remove the virtual environment and all caches"

demo: $(VENV)/.runtime
	@$(BIN)/sealwire demo

test: $(VENV)/.development
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(CODEC_TESTS) >.test-codec.log 2>&1 & codec=$$!; \
		$(BIN)/python -m pytest $(SERVER_TESTS) >.test-servers.log 2>&1 & servers=$$!; \
		$(BIN)/coverage run -m pytest $(COMMAND_TESTS) >.test-commands.log 2>&1 & commands=$$!; \
		$(BIN)/coverage run -m pytest $(addprefix --ignore=,$(CODEC_TESTS) $(SERVER_TESTS) $(COMMAND_TESTS)); others=$$?; \
		wait $$codec; codec=$$?; wait $$servers; servers=$$?; wait $$commands; commands=$$?; \
		cat .test-codec.log .test-servers.log .test-commands.log; exit $$((others + codec + servers + commands))
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --include='src/sealwire/wire/*,src/sealwire/pickling/*' --fail-under=100

# A copy of the package, installed as users install it, in an environment of its own.
test-compiled: $(VENV)/.development
	@test -x $(COMPILED)/bin/python || $(PYTHON) -m venv $(COMPILED)
	@$(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check --group test
	@SEALWIRE_COMPILE=1 $(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-cache-dir --force-reinstall .
	@$(COMPILED)/bin/python -c 'import sealwire.pickling.vet as vet; assert not vet.__file__.endswith(".py"), vet.__file__'
	@$(COMPILED)/bin/python -m pytest -q tests/pickling

# What it finds is written beside the corpus, which the next run goes on from.
fuzz: $(VENV)/.fuzz
	@$(BIN)/python tests/fuzz/fuzz_decode.py $(FUZZ_UNTIL) -max_len=1000 -print_final_stats=1 \
		-artifact_prefix=$(CORPUS)/ $(CORPUS) 2>&1 | grep -vE '^#|Uses:|Recommended|recommended|INFO:'; exit $${PIPESTATUS[0]}

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

format: $(VENV)/.development
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.development
	$(BIN)/python benchmarks/roundtrip.py
	$(BIN)/python benchmarks/pipelining.py
	$(BIN)/python benchmarks/codec.py
	$(BIN)/python benchmarks/arrays.py

clean:
	rm -rf $(VENV) $(COMPILED) $(CORPUS) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache .coverage .coverage.*

# The demo has what users have, and no more, so that it starts quickly and proves what they get.
$(VENV)/.runtime: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Sealwire needs Python 3.11 or later; choose it with PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --editable '.[cli]'
	@touch $@

$(VENV)/.development: $(VENV)/.runtime
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --group dev
	@touch $@

$(VENV)/.fuzz: $(VENV)/.development
	@$(PIP) install --group fuzz
	@touch $@
