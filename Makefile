# Every target sets up what it needs; `make` alone says what there is.
# Needed beforehand: make, Python 3.11 or newer, a package index.

FOLDER := $(shell cat .venv/.folder 2>/dev/null)
MADE_BY := $(shell cat .venv/.python 2>/dev/null)
PYTHON ?= $(or $(MADE_BY),python3)
ARGS ?=

BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)

# Habits of a shell that would send an installation elsewhere than into .venv.
unexport VIRTUAL_ENV PYTHONHOME UV_SYSTEM_PYTHON
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_PYTHON_DOWNLOADS := never
ifeq ($(shell test -w "$$HOME" && echo yes),)
export UV_CACHE_DIR ?= $(CURDIR)/.uv/cache
export PIP_NO_CACHE_DIR := 1
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: help
help: ## say what can be made
	@echo 'make TARGET [PYTHON=/path/to/python3] [ARGS="more words for test, bench or lock"]'
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do \
	  printf '  %-11s %s\n' "$$name" "$$what"; done

.PHONY: setup
setup: .venv/.installed ## make .venv: everything in requirements.lock, and llm-mcp itself (editable)
	@:

.PHONY: demo
demo: .venv/.installed ## show all of it at work on this machine, then clean up
	@$(BIN)/llm-mcp demo

.PHONY: up
up: .venv/.installed ## run all of it on this machine: Postgres, model, HTTP door, worker
	@$(BIN)/llm-mcp up

.PHONY: test
test: .venv/.installed ## run the tests, except the long ones (-m soak)
	@$(BIN)/python -m pytest -m 'not soak' $(ARGS)

.PHONY: check
check: .venv/.installed ## lint, format, types, floors, lock, compose file; needs no network
	@step() { echo "$$*"; "$$@" || failed=yes; }; \
	step $(BIN)/ruff check --quiet; \
	step $(BIN)/ruff format --check --quiet; \
	step $(BIN)/mypy --no-error-summary; \
	step $(BIN)/lint-imports --no-logo --no-cache; \
	step $(BIN)/python -m pytest --quiet --no-header tests/unit/test_lock.py; \
	if docker compose version >/dev/null 2>&1; \
	then POSTGRES_PASSWORD=checked; export POSTGRES_PASSWORD; step docker compose config --quiet; \
	else echo 'compose.yml: not checked, for docker compose is not here'; fi; \
	[ -z "$$failed" ]

.PHONY: bench
bench: .venv/.installed ## measure the queue beside other queues on this machine (25 min); prints, judges nothing
	@$(BIN)/python -m tests.bench queue $(ARGS)

.PHONY: chaos
chaos: .venv/.installed ## kill, freeze, cut off and restart what runs, then judge what is left (SECONDS=75, SEED=…)
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),75) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: clients
clients: .venv/.installed ## run real clients, each in an environment of its own, against a server (4 min); writes docs/clients.md
	@$(BIN)/python -m tests.contract.clients $(ARGS)

.PHONY: mcpclients
mcpclients: .venv/.installed ## run real MCP clients, each in an environment of its own, against the bridge (6 min); writes docs/mcp-clients.md
	@$(BIN)/python -m tests.contract.mcp $(ARGS)

.PHONY: conformance
conformance: .venv/.installed ## run the conformance suites of MCP, with the harness that npm has, against the bridge (1 min)
	@$(BIN)/python -m tests.conformance $(ARGS)

.PHONY: fmt
fmt: .venv/.installed ## format, and fix what the linter can fix
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet

.PHONY: lock
lock: .venv/.installed ## bring requirements.lock up to pyproject.toml (ARGS=--upgrade: the newest of a week ago)
	@week_ago=$$($(BIN)/python -c 'from datetime import date, timedelta; print(date.today() - timedelta(7))') && \
	$(BIN)/uv pip compile pyproject.toml --extra local --group dev --group model --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --exclude-newer "$$week_ago" --quiet $(ARGS) -o requirements.lock

.PHONY: stubs
stubs: .venv/.installed ## generate llm_mcp/rpc from proto/llm.proto
	@$(BIN)/python -m grpc_tools.protoc -Illm_mcp/rpc=proto --python_out=. --pyi_out=. --grpc_python_out=. llm_mcp/rpc/llm.proto

.PHONY: clean
clean: ## remove what these targets made in this folder
	@rm -rf .venv .uv .bench build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# Scripts in an environment name its folder and interpreter: moved, or asked for by another PYTHON, it is made anew.
ifneq ($(FOLDER)|$(MADE_BY),$(CURDIR)|$(PYTHON))
.venv/.synced: FORCE
ifneq ($(FOLDER),)
ANEW := yes
endif
endif

.PHONY: FORCE
FORCE:

define need_python
@command -v '$(PYTHON)' >/dev/null || { echo 'setup: there is no $(PYTHON) here; $(WANTED)' >&2; exit 1; }
@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "setup: $$('$(PYTHON)' -V 2>&1) is too old; $(WANTED)" >&2; exit 1; }
endef
WANTED := llm-mcp needs Python 3.11 or newer (make setup PYTHON=/path/to/python3)

define need_venv
@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
  echo 'setup: $(PYTHON) cannot make environments; install python3-venv (apt install python3-venv), or uv' >&2; exit 1; }
endef

# uv does it in seconds; where it cannot be had or cannot reach the index, pip does the same from the same lock.
.venv/.synced: requirements.lock
	$(need_python)
	@[ -z '$(ANEW)' ] && $(BIN)/python -c '' 2>/dev/null || rm -rf .venv
	$(if $(filter .uv/%,$(UV)),$(need_venv))
	@if [ '$(UV)' = .uv/bin/uv ] && [ ! -x .uv/bin/uv ]; then \
	  echo 'setup: uv'; \
	  '$(PYTHON)' -m venv --clear .uv && \
	  awk '/^[^ ]/ { uv = /^uv==/ } uv' requirements.lock >.uv/uv.lock && \
	  .uv/bin/python -m pip install --quiet --no-deps --require-hashes -r .uv/uv.lock || true; fi
	@echo 'setup: requirements.lock'; \
	{ [ -d .venv ] || '$(UV)' venv --quiet --python '$(PYTHON)' .venv; } && \
	'$(UV)' pip sync --quiet --require-hashes --python $(BIN)/python requirements.lock || { \
	  echo 'setup: requirements.lock, without uv'; \
	  '$(PYTHON)' -m venv --clear .venv && \
	  $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock; }
	@pwd -P >.venv/.folder; echo '$(PYTHON)' >.venv/.python; touch $@

.venv/.installed: .venv/.synced pyproject.toml
	@echo 'setup: llm-mcp'
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --root-user-action=ignore -e .
	@touch $@
