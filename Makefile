# Every command installs what it needs first, into .venv and .tools only (tools/bootstrap.py).
PYTHON ?= python3
BOOT = $(PYTHON) tools/bootstrap.py
BIN = .venv/bin
ARGS ?=

.PHONY: help rehearse test lint format docs bench hooks clean

help: ## List the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1#\2/p' Makefile | while IFS='#' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

rehearse: ## Play a release on this machine, from a pull request to PyPI (ARGS=--approve)
	@$(BOOT) run
	@$(BIN)/gatehouse rehearse $(ARGS)

test: ## Run every test, the workflow runs included (ARGS="-k word" picks some)
	@$(BOOT) dev go browser
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: ## Check style and types, and every action, workflow and template
	@$(BOOT) dev go langcheck
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p gatehouse -p tests -p tools
	$(BIN)/python tools/lint_yaml.py

format: ## Rewrite the Python files in house style
	@$(BOOT) dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: ## Write the generated tables and blocks of the documentation again
	@$(BOOT) dev
	$(BIN)/python tools/action_docs.py
	$(BIN)/python -m tests.contracts.schemas

bench: ## Measure a run against its goals (benchmarks/)
	@$(BOOT) dev
	$(BIN)/python benchmarks/run.py $(ARGS)

hooks: ## Check style and generated documentation before each commit (pre-commit)
	@$(BOOT) dev
	$(BIN)/pre-commit install

clean: ## Remove what these commands installed
	rm -rf .venv .tools tools/langcheck/node_modules
