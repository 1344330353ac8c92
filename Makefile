# What to type. `make help` lists it. Needs make and Python 3.11 or newer; everything else comes from pip.

VENV   ?= .venv
JOBS   ?= 2
BIN    := $(VENV)/bin
# the first of these that is new enough; `make PYTHON=/path/to/python` overrides the choice
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
DEMO   := scenarios/first-steps/xdp-firewall.yaml

.PHONY: help demo test live long scores differential safety fuzz wild parity-net check format bench objects clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## set up, then run the first scenario
	$(BIN)/ebpfsim run $(DEMO)

test: $(VENV)/.installed-dev ## set up, then run the tests
	$(BIN)/python -m pytest -n $(JOBS)

long: $(VENV)/.installed-dev ## run the tests that take long: the whole corpus of the verifier
	$(BIN)/python -m pytest -n $(JOBS) -m long

differential: $(VENV)/.installed-dev ## compare interpreter, JIT and this Linux on 400,000 random programs (an hour)
	$(BIN)/python tests/differential/run.py verified unverified --count 200000 --jobs $(JOBS)

soundness: $(VENV)/.installed-dev ## 100,000 verified programs with all registers inside the verifier's abstract states
	$(BIN)/python tests/differential/run.py soundness --count 100000 --jobs $(JOBS)

verdicts: $(VENV)/.installed-dev ## 100,000 random programs, our verifier's answer and log beside this Linux'
	$(BIN)/python tests/differential/run.py verdicts --count 100000 --jobs $(JOBS)

# EBPFSIM_VM is a command that runs the command behind it as root on a Linux that is thrown away (a virtual machine that
# sees this folder and passes the environment on), where programs may be attached anywhere. Without it that part is left
# out.
live: $(VENV)/.installed-dev ## ask the kernel of this machine, and the one behind EBPFSIM_VM, for the facts of tests/facts
	$(BIN)/python -m pytest -n $(JOBS) -m "live and not long" tests/facts tests/unit/hooks tests/unit/netstack
	@if [ -n "$$EBPFSIM_VM" ]; then echo "$(BIN)/python -m pytest -m vm tests/facts"; \
	  $(BIN)/python -m pytest -n 0 -m vm tests/facts; \
	else echo "EBPFSIM_VM is not set: what only a machine to be thrown away can answer was not asked"; fi

safety: $(VENV)/.installed-dev ## 10,000,000 loads and stores by wild pointers (some minutes)
	$(BIN)/python tests/differential/run.py safety --count 10000000 --jobs $(JOBS)

fuzz: $(VENV)/.installed-dev ## open 1,000,000 broken objects and BTF blobs (an hour)
	$(BIN)/python tests/fuzz/run.py --count 1000000 --jobs $(JOBS)

scores: $(VENV)/.installed-dev ## how much of a corpus of judged programs is answered as by Linux (EBPFSIM_CORPUS=FOLDER)
	$(BIN)/python -m pytest -m scores tests/corpus

wild: $(VENV)/.installed-dev ## fetch objects that others compiled (Debian's libbpf-tools, libxdp) and load them
	$(BIN)/python tools/fetch_wild.py build/wild
	$(BIN)/python -m pytest -n $(JOBS) tests/wild

parity-net: $(VENV)/.installed-dev ## send 10,000 packets through networks of this Linux and through simulated ones (root)
	$(BIN)/python -m pytest -n 0 -m parity tests/parity

check: $(VENV)/.installed-dev ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev ## run the benchmarks
	$(BIN)/python -m pytest -m bench tests/bench

objects: | $(BIN)/python ## build the BPF objects from their C sources (clang-19 or newer, else the ziglang wheel)
	$(BIN)/python tools/compile_bpf.py scenarios/bpf/*.bpf.c

clean: ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An editable install, so that changed sources count at once; again only when pyproject.toml changes.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@for python in $(PYTHON); do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: no Python 3.11 or newer among: $(PYTHON)" >&2; \
	  echo "try: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! $$found -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "error: $$found cannot create virtual environments: its modules venv or ensurepip are missing" >&2; \
	  echo "try: apt install python3-venv (Debian, Ubuntu), or in an environment of your own:" >&2; \
	  echo "     pip install . && ebpfsim run $(DEMO)" >&2; exit 1; \
	fi; \
	echo "$$found -m venv $(VENV)"; $$found -m venv $(VENV)
