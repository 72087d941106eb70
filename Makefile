# AgentRelay: `make run` runs it on this machine, `make test` tests it. `make` lists the rest.
#
# Needs Python 3.11, a C compiler and Node 20; everything else is installed below .venv and web/node_modules, in
# exactly the versions of requirements/*.txt and web/package-lock.json. What is up to date is not done again.

PYTHON ?= python3
PORT ?= 8080

# A fuzzer of 35 MB that runs on Linux alone, so apart from requirements/dev.txt.
ATHERIS := atheris==3.0.0

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
COMPILED := $(wildcard agentrelay/_fastpath.*.so)
FASTPATH_SOURCES := setup.py $(wildcard agentrelay/*.pyx agentrelay/*.pxd)
UI := agentrelay/hq/ui/index.html
# With its directories: removing a file changes the time of its directory.
WEB_SOURCES := $(shell find web/src web/public 2>/dev/null) \
	$(wildcard web/index.html web/package.json web/vite.config.ts web/tsconfig*.json)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Build

.PHONY: build build-web
build: $(VENV)/.package bin/hq bin/runner ## install what AgentRelay needs, compile it, link bin/hq and bin/runner
	@:

build-web: $(UI) ## build the web UI that HQ serves
	@:

$(PY):
	@PYTHON=$(PYTHON) scripts/require.sh python cc
	@echo "== creating $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.run: requirements/build.txt requirements/run.txt | $(PY)
	@echo "== installing Python packages"
	@$(PIP) install --quiet --require-hashes -r requirements/build.txt -r requirements/run.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "== installing Python packages for tests and checks"
	@$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.package: pyproject.toml $(FASTPATH_SOURCES) $(VENV)/.run $(if $(COMPILED),,compile)
	@echo "== compiling AgentRelay"
	@AGENTRELAY_STRICT=1 $(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# A prerequisite that is never up to date, for when the compiled module is gone.
.PHONY: compile
compile:

bin/hq bin/runner: | $(VENV)/.package
	@mkdir -p bin
	@ln -sf ../$(VENV)/bin/agentrelay-$(@F) $@

web/node_modules/.package-lock.json: web/package-lock.json
	@scripts/require.sh node
	@echo "== installing web packages"
	@cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(UI): $(WEB_SOURCES) web/node_modules/.package-lock.json
	@echo "== building the web UI"
	@cd web && npm run --silent build
	@touch $@

## Run

.PHONY: run run-hq run-runner run-web verify
run: build build-web ## run HQ and a runner here and print a link to log in; PORT=9000 make run for another port
	@PORT=$(PORT) exec $(PY) -m scripts.run_local

run-hq: build build-web ## run HQ alone
	@PORT=$(PORT) exec $(VENV)/bin/agentrelay-hq

run-runner: build ## run a runner alone; HQ_URL, RUNNER_ID and RUNNER_TOKEN say how
	@# Its programs get its environment, and what make sets is none of their business.
	@exec env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS -u PORT $(VENV)/bin/agentrelay-runner

run-web: web/node_modules/.package-lock.json ## serve the web UI from its sources, for work on it
	@cd web && exec npm run --silent dev

verify: build ## try a running system from the outside: HQ_URL, AGENTRELAY_ADMIN_TOKEN or VERIFY="--no-login"
	@PORT=$(PORT) exec $(PY) -m scripts.verify $(VERIFY)

## Check

.PHONY: test lint types test-python test-debug test-web test-e2e test-agents conformance fuzz asan
test: lint types test-python test-web test-e2e ## run every check and test, the browser's too

lint: build $(VENV)/.dev web/node_modules/.package-lock.json ## check style and layers
	@echo "== ruff"
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --quiet --check .
	@echo "== cython-lint"
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint agentrelay
	@echo "== import-linter"
	@$(VENV)/bin/lint-imports --no-logo
	@echo "== biome"
	@cd web && npm run --silent lint

types: build $(VENV)/.dev web/node_modules/.package-lock.json ## check types
	@echo "== mypy"
	@$(VENV)/bin/mypy
	@echo "== stubtest"
	@$(PY) -m mypy.stubtest agentrelay._fastpath
	@echo "== tsc"
	@cd web && npm run --silent types

test-python: build $(VENV)/.dev ## test HQ, the runner and the hot path, compiled and not
	@echo "== pytest"
	@$(PY) -m pytest
	@echo "== pytest, hot path in Python"
	@AGENTRELAY_PURE=1 $(PY) -m pytest tests/fastpath tests/transport

test-debug: build $(VENV)/.dev ## test all of Python with the checked build of the hot path: bounds checks, assertions
	@# Whatever happens now, the next `make build` compiles the usual one again.
	@rm $(VENV)/.package
	@echo "== compiling the checked build"
	@AGENTRELAY_DEBUG=1 AGENTRELAY_STRICT=1 $(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(PY) -m pytest
	@$(MAKE) --no-print-directory build

test-web: web/node_modules/.package-lock.json ## test the web UI's code
	@echo "== vitest"
	@cd web && npm run --silent test

test-e2e: build build-web ## test the whole in Chromium, which is installed where it is missing and may be
	@echo "== browser tests"
	@chromium=$$(scripts/install_chromium.sh) && CHROMIUM=$$chromium node --test --test-concurrency=1 tests/e2e/*.test.mjs

test-agents: build build-web ## test with real agents: 700 MB of downloads, so apart from test; makes the README's picture
	@chromium=$$(scripts/install_chromium.sh) && agents=$$(scripts/install_agents.sh) && \
		CHROMIUM=$$chromium AGENTS=$$agents node --test tests/agents/*.test.mjs

conformance: build $(VENV)/.dev ## test the WebSocket endpoint with all of Autobahn's cases
	@$(PY) -m bench.conformance

$(VENV)/.fuzz: $(VENV)/.dev
	@echo "== installing $(ATHERIS)"
	@$(PIP) install --quiet $(ATHERIS)
	@touch $@

fuzz: build $(VENV)/.fuzz ## feed the hot path arbitrary bytes, a minute each way; SECONDS=600 for longer
	@for target in frames mux streams endpoint; do \
		echo "== fuzzing: $$target" && \
		$(PY) -m bench.fuzz $$target -max_total_time=$(or $(SECONDS),60) || exit; done

asan: build $(VENV)/.dev ## test the hot path under AddressSanitizer and UBSan; SECONDS=600: again and again, so long
	@$(PY) -m bench.sanitize $(or $(SECONDS),0)

## Measure

.PHONY: bench bench-system bench-compare bench-baseline bench-docs echo-server soak
bench: build $(VENV)/.dev ## measure the hot path
	@mkdir -p bench/results
	@$(PY) -m pytest bench --benchmark-json=bench/results/micro.json

bench-system: build $(VENV)/.dev ## measure the whole system; BENCH="--quick" for a first look
	@$(PY) -m bench.system $(BENCH)

bench-compare: build $(VENV)/.dev ## measure both and fail where a ratio is worse than in bench/baseline.json
	@$(PY) -m bench.compare

bench-baseline: build $(VENV)/.dev ## measure both and make that bench/baseline.json; for a quiet machine
	@$(PY) -m bench.compare --update

bench-docs: build $(VENV)/.dev ## write tables and plots of the newest bench-system and bench into docs/
	@$(PY) -m bench.tables

echo-server: build $(VENV)/.dev ## serve WebSocket echo through the product's transport; PORT=9001 for another port
	@exec $(PY) -m bench.echo_server $(PORT)

soak: build $(VENV)/.dev ## break a running system 200 times, its core in 2,000 ways, and more; SOAK=1000 for more often
	@seed=$${AGENTRELAY_SOAK_SEED:-$$($(PY) -c 'import random; print(random.randrange(10**6))')}; \
		echo "AGENTRELAY_SOAK_SEED=$$seed"; \
		AGENTRELAY_SOAK_SEED=$$seed AGENTRELAY_SOAK_FAULTS=$(or $(SOAK),200) \
		AGENTRELAY_SOAK_EXAMPLES=$(or $(SOAK),200)0 AGENTRELAY_SOAK_LINKS=$(or $(SOAK),200)0 \
		AGENTRELAY_SOAK_TYPED=5000 \
		$(PY) -m pytest -s -o faulthandler_timeout=0 --hypothesis-seed=$$seed \
		tests/hq/test_session_machine.py tests/hq/test_hostile_runner.py tests/system/test_neighbours.py \
		tests/system/test_faults.py

## Look after

.PHONY: lock clean
lock: $(VENV)/.dev ## write requirements/*.txt anew after a change of pyproject.toml; UPGRADE=--upgrade for newer versions
	@scripts/lock.sh $(PY) $(UPGRADE)

clean: ## remove everything that was built or installed here
	rm -rf $(VENV) web/node_modules agentrelay/hq/ui bin/hq bin/runner build dist ./*.egg-info
	rm -f agentrelay/_fastpath.c agentrelay/_fastpath.html agentrelay/_fastpath.*.so
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find agentrelay bench scripts tests -name __pycache__ -prune -exec rm -rf {} +
