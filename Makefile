# Every command a person needs here. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: help run lab test quick test-colab test-real notebooks lint workflows site lock release bench growth waiting rounds-to-target secagg-bench privacy cameras clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## run every lesson, or LESSON=04; executed copies and figures go to build/
	@$(BIN)/python tools/notebooks.py $(LESSON) --into build

lab: $(READY) ## open the lessons in JupyterLab
	$(BIN)/jupyter lab notebooks

# Tests and stored outputs use the data every machine has; in tests a claim that fails is an error.
test quick test-colab notebooks: export FEDCOURSE_SOURCE = embedded
test: export FEDCOURSE_CLAIMS = raise

TWO := --numprocesses 2
test: lint ## all tests: style, units, and every lesson from top to bottom
	$(BIN)/pytest -m "not colab" $(TWO) --dist loadfile
	$(BIN)/pytest --nbval-lax --nbval-cell-timeout 900 $(TWO) --dist loadscope --no-loadscope-reorder $$($(BIN)/python tools/notebooks.py --order)

quick: lint ## the tests that take seconds
	$(BIN)/pytest -m "not slow and not colab" $(TWO) --dist loadfile

lint: $(READY) workflows ## check the style of code and notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check

SCHEMA := $(BIN)/check-jsonschema --builtin-schema
workflows: $(READY) ## check what GitHub reads: workflows, forms, citation
	@$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	@$(SCHEMA) custom.github-workflows-require-timeout .github/workflows/*.yml
	@$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	@$(SCHEMA) vendor.dependabot .github/dependabot.yml
	@$(SCHEMA) vendor.citation-file-format CITATION.cff
	@$(BIN)/zizmor --offline --quiet .

site: $(READY) ## render the stored lessons as web pages in build/site
	@$(BIN)/python tools/site.py

test-colab: $(READY) ## run every lesson in a replica of Colab: quick knobs, then turned ones
	$(BIN)/pytest -m colab $(TWO) --dist load tests/test_colab.py

test-real: $(READY) ## hold every lesson's claims against real writers; FEDCOURSE_REAL_WRITERS=file
	@$(BIN)/python tools/real_writers.py build/real.sqlite
	@FEDCOURSE_SOURCE=$(CURDIR)/build/real.sqlite $(BIN)/python tools/notebooks.py $(LESSON) --into build/real --record real

notebooks: $(READY) ## run every lesson, or LESSON=04, and store its outputs in place
	@$(BIN)/python tools/notebooks.py $(LESSON) --record embedded

bench: $(READY) ## seconds per round here, in a plain loop, and in four other frameworks
	@$(BIN)/python benchmarks/bench.py

waiting: $(READY) ## seconds from the start of Python to the first round
	@$(BIN)/python benchmarks/waiting.py

rounds-to-target: $(READY) ## rounds to a target accuracy by E, B and C; FEDCOURSE_REAL_WRITERS=file
	@$(BIN)/python benchmarks/rounds_to_target.py

growth: $(READY) ## seconds and memory against clients per round, population, rounds
	@$(BIN)/python benchmarks/growth.py

secagg-bench: $(READY) ## seconds and bytes of secure aggregation, beside the paper's
	@$(BIN)/python benchmarks/secure_aggregation.py

privacy: $(READY) ## accuracy against epsilon on real writers; FEDCOURSE_REAL_WRITERS=file
	@$(BIN)/python benchmarks/privacy.py

cameras: $(READY) ## the search behind lesson 05's settings
	@$(BIN)/python benchmarks/cameras.py

lock: ## write constraints.txt anew from requirements.txt
	@rm -rf build/lock && mkdir -p build && $(PYTHON) -m venv build/lock
	@sed '/^-c /d' requirements.txt > build/lock/requirements.txt
	@build/lock/bin/pip install -r build/lock/requirements.txt
	@build/lock/bin/pip freeze --all --exclude pip > constraints.txt

release: ## tag the version of src/fedcourse/__init__.py, which CHANGELOG.md describes
	@$(PYTHON) tools/release.py

clean: ## remove what these commands made, the environment too
	rm -rf .venv build .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find . \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

$(READY): requirements.txt constraints.txt requirements-tff.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("This needs Python 3.11 to 3.13; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 ..." % v)'
	@echo "Making the environment in .venv: about 2 GB, a few minutes."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --disable-pip-version-check -r requirements.txt | $(PROGRESS)
	@$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --ignore-requires-python -r requirements-tff.txt
	@$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Of pip's many lines: a count that moves.
PROGRESS := awk '/^(Collecting|Processing)/ { printf "\r  %d packages found", ++n; fflush() } /^Installing/ { printf ", installing them"; fflush() } END { print "" }'
