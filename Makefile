# Flyteplane. `make help` lists the commands.

PYTHON ?= python3
# Variables of make's command line or the environment reach the sandbox: PORT, SANDBOX_DIR, SANDBOX_SETTINGS. REPLICAS,
# the number of processes of registry, of events and of executions each, reaches it as SANDBOX_REPLICAS, and load tests
# as an option.

VENV := .venv
BIN := $(VENV)/bin
# One environment. The first stamp means that it can run the stack, the second that it can also run the tests.
RUN_READY := $(VENV)/.ready-to-run
TEST_READY := $(VENV)/.ready-to-test
# flytekit, as its users install it, in an environment of its own: the services do not need its dependencies.
CLIENT_VENV := .venv-client
CLIENT_READY := $(CLIENT_VENV)/.ready
# Helm's library and the schemas of Kubernetes, for tests of the chart: as large as all other environments together.
CHART_VENV := .venv-chart
CHART_READY := $(CHART_VENV)/.ready
# Wheels only, each with its hash: nothing is compiled, and nothing but what was locked is installed.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps --only-binary :all:
SANDBOX := $(if $(REPLICAS),SANDBOX_REPLICAS=$(REPLICAS)) $(BIN)/python -m deploy.sandbox
# Commands that inspect or end a stack install nothing: without an environment none can be running.
IF_SET_UP = test -x $(BIN)/python || { echo "Nothing is set up here yet: make up"; exit 3; };
# A worker for each core, of integration tests three for two cores. Unit tests go to whichever is free. Integration tests
# go file by file and in order, as the tests of a file share parts, and those of a folder a stack.
UNIT_WORKERS := -n logical --dist worksteal
INTEGRATION_WORKERS := -n auto --dist loadfile --no-loadscope-reorder
UV ?= uv
LOCK := $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help up down status runs logs reset bench bench-registry bench-executions bench-engine bench-compare bench-login bench-cluster chaos outage fuzz test test-unit test-integration test-long test-cluster test-chart image-check lint fmt typecheck docs lock

help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: PORT, SANDBOX_DIR, SANDBOX_SETTINGS, SANDBOX_ENGINE, SANDBOX_TASK_PYTHON, REPLICAS (docs/settings.md); PYTHON=$(PYTHON) (3.11 or newer)"

up: $(RUN_READY) ## Start the local stack and wait until it is ready (FOREGROUND=1 stays; Ctrl-C stops it)
	@$(SANDBOX) up $(if $(FOREGROUND),--foreground)

down: ## Stop the local stack; its data stays
	@$(IF_SET_UP) $(SANDBOX) down

status: ## Show the parts of the local stack, their health and memory
	@$(IF_SET_UP) $(SANDBOX) status

runs: ## Show what the engine runs, a line for each execution
	@$(IF_SET_UP) $(SANDBOX) runs

logs: ## Follow the logs of the parts (PART=registry for one)
	@$(IF_SET_UP) $(SANDBOX) logs --follow $(PART)

reset: ## Stop the local stack and delete its data
	@$(IF_SET_UP) $(SANDBOX) reset

bench: $(RUN_READY) ## Load on separate sandboxes, about half an hour; writes bench/RESULTS.md (SECONDS, STORED)
	@$(BIN)/python -m bench.sandbox --out bench/RESULTS.md \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(STORED),--stored $(STORED))

bench-registry: $(RUN_READY) ## Bulk registration and lists over a long history; writes bench/RESULTS-registry.md (SIZES)
	@$(BIN)/python -m bench.registry --out bench/RESULTS-registry.md $(if $(SIZES),--sizes $(SIZES))

bench-executions: $(RUN_READY) ## Launches and reads of executions over a long history; writes bench/RESULTS-executions.md (SIZES)
	@$(BIN)/python -m bench.executions --out bench/RESULTS-executions.md $(if $(SIZES),--sizes $(SIZES))

bench-engine: $(RUN_READY) $(CLIENT_READY) ## What the local engine adds to tasks; writes bench/RESULTS-engine.md
	@$(BIN)/python -m bench.engine --out bench/RESULTS-engine.md

bench-compare: $(RUN_READY) ## This checkout and commit BASE in turn; writes bench/RESULTS-compare.md (ROUNDS, SECONDS)
	@$(BIN)/python -m bench.compare --base $(or $(BASE),origin/main) --out bench/RESULTS-compare.md \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

bench-login: $(RUN_READY) ## What login and roles add to calls and events; writes bench/RESULTS-login.md (ROUNDS, SECONDS)
	@$(BIN)/python -m bench.login --out bench/RESULTS-login.md \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

bench-cluster: $(TEST_READY) ## 100 launches/s without an engine and on a real API server; writes bench/RESULTS-cluster.md (SECONDS, RATE)
	@$(BIN)/python -m bench.cluster --out bench/RESULTS-cluster.md \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE))

chaos: $(RUN_READY) ## Kill and freeze parts under load: nothing may get lost (SECONDS, RATE, REPLICAS, SEED)
	@$(BIN)/python -m bench.chaos $(if $(REPLICAS),--replicas $(REPLICAS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE)) $(if $(SEED),--seed $(SEED))

outage: $(RUN_READY) ## Stop executions for a minute under load: no event may fail (SECONDS, RATE, REPLICAS)
	@$(BIN)/python -m bench.outage $(if $(REPLICAS),--replicas $(REPLICAS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE))

fuzz: $(RUN_READY) ## Mutated calls of every RPC: none may return a server error (CALLS, SEED)
	@$(BIN)/python -m bench.fuzz $(if $(CALLS),--calls $(CALLS)) $(if $(SEED),--seed $(SEED))

test: lint test-unit test-integration ## Everything that must pass: environment, lint, unit and integration tests

test-unit: $(TEST_READY) ## Tests of rules, without the stack
	@$(BIN)/python -m pytest -q $(UNIT_WORKERS) tests/unit

test-integration: $(TEST_READY) $(CLIENT_READY) ## Tests against real stacks, on free ports
	@$(BIN)/python -m pytest -q $(INTEGRATION_WORKERS) tests/integration

test-long: $(TEST_READY) $(CLIENT_READY) ## Tests that take too long for every change
	@$(BIN)/python -m pytest -q -n 0 -m long tests/integration

test-cluster: $(TEST_READY) ## Tests on real API servers, built once (minutes); skipped where Go is not found
	@$(BIN)/python -m tests.support.cluster_binaries >/dev/null; status=$$?; \
		if [ $$status -eq 3 ]; then echo "Tests on real API servers are skipped."; \
		elif [ $$status -ne 0 ]; then exit $$status; \
		else $(BIN)/python -m pytest -q -n 0 tests/cluster; fi

test-chart: $(TEST_READY) $(CHART_READY) ## Render the chart by Helm, and run its pods as local processes (minutes)
	@$(BIN)/python -m pytest -q -n 0 tests/chart

# A minute, of which most is the download of wheels, and it needs root: not part of `make test`.
image-check: $(TEST_READY) ## Run the steps of the Dockerfile without Docker, and start what they make (needs root)
	@$(BIN)/python -m pytest -q -n 0 tests/image

lint: $(TEST_READY) ## Style, format, types and import rules; the Dockerfile
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/hadolint Dockerfile

typecheck: $(TEST_READY) ## Types only
	@$(BIN)/mypy --no-error-summary

fmt: $(TEST_READY) ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet

docs: $(TEST_READY) ## Write docs/settings.md, the table of RPCs and roles, and the chart's generated files from the definitions of settings and values
	@$(BIN)/python -m docs.settings_page
	@$(BIN)/python -m docs.authorization_page
	@$(BIN)/python -m docs.chart_files

lock: ## Upgrade the locked versions within the bounds of pyproject.toml (needs uv)
	@$(LOCK) --upgrade --extra sandbox --output-file requirements.lock pyproject.toml
	@$(LOCK) --upgrade --extra sandbox --extra dev --constraint requirements.lock \
		--output-file requirements-dev.lock pyproject.toml
	@$(LOCK) --upgrade --constraint requirements.lock --output-file requirements-image.lock pyproject.toml
	@$(LOCK) --upgrade --output-file requirements-client.lock requirements-client.in
	@$(LOCK) --upgrade --output-file requirements-chart.lock requirements-chart.in
	@$(LOCK) --upgrade --constraint requirements-client.lock --output-file requirements-tasks.lock requirements-tasks.in

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Flyteplane needs Python 3.11 or newer; '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>/dev/null || echo 'not there'). Name another: make PYTHON=python3.11 ..." >&2; \
		exit 1; }
	@echo "Making the environment in $(VENV) (once) ..."
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "Python's venv module does not work; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(RUN_READY): requirements.lock $(BIN)/python
	@echo "Installing what the stack needs (once) ..."
	@$(BIN)/python $(INSTALL) --requirement requirements.lock
	@touch $@

# The second lock contains all of the first, in the same versions.
$(TEST_READY): requirements.lock requirements-dev.lock $(BIN)/python
	@echo "Installing what tests need (once) ..."
	@$(BIN)/python $(INSTALL) --requirement requirements-dev.lock
	@touch $(RUN_READY) $@

$(CLIENT_READY): requirements-client.lock $(BIN)/python
	@echo "Installing flytekit for the tests, in $(CLIENT_VENV) (once) ..."
	@$(PYTHON) -m venv --clear $(CLIENT_VENV)
	@$(CLIENT_VENV)/bin/python $(INSTALL) --requirement requirements-client.lock
	@touch $@

$(CHART_READY): requirements-chart.lock $(BIN)/python
	@echo "Installing Helm's library for the tests of the chart, in $(CHART_VENV) (once) ..."
	@$(PYTHON) -m venv --clear $(CHART_VENV)
	@$(CHART_VENV)/bin/python $(INSTALL) --requirement requirements-chart.lock
	@touch $@
