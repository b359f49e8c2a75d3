# Lastmile's commands. `make` alone lists them.

PYTHON ?= python3
ARGS ?=
# Tests wait for servers and browsers half of their time.
WORKERS ?= $(shell echo $$(($$(nproc 2>/dev/null || echo 2) * 2)))

VENV := .venv/bin
LOCK := $(VENV)/python -m piptools compile --quiet --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help run test nightly bench check format lock translations screenshots pictures clean python venv venv-dev

help: ## list these commands
	@awk 'BEGIN {FS = ":.*## "; print "make COMMAND, one of:"} \
		/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: venv ## start the portal with its demo; PORT=8000 and LASTMILE_DATA=instance can be set
	@LASTMILE_DEMO=1 exec $(VENV)/python app.py

test: venv-dev ## run every test in parallel; ARGS='-k billing -x' is passed on to pytest
	@exec $(VENV)/python -m pytest --numprocesses=$(WORKERS) $(ARGS)

nightly: venv-dev ## run every test with 200 faults of each kind and ten times the random input
	@LASTMILE_REPEATS=200 exec $(VENV)/python -m pytest --numprocesses=$(WORKERS) \
		--timeout=3600 -o faulthandler_timeout=3600 $(ARGS)

bench: venv-dev ## measure; ARGS='pages --size small', or --write for the tables of docs/performance.md
	@exec $(VENV)/python -m bench $(ARGS)

check: venv-dev ## lint, formatting, types, translations, vendored files, inventory
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/python scripts/translations.py check
	@$(VENV)/python scripts/vendored.py check
	@$(VENV)/python scripts/inventory.py check

format: venv-dev ## put the code into the form that `make check` asks for
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

lock: venv-dev ## write requirements*.txt from the .in files; ARGS=--upgrade takes the newest versions
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.5'
	@CUSTOM_COMPILE_COMMAND='make lock' $(LOCK) --output-file=requirements.txt requirements.in
	@CUSTOM_COMPILE_COMMAND='make lock' $(LOCK) --output-file=requirements-dev.txt requirements-dev.in
	@$(VENV)/python scripts/inventory.py write

translations: venv-dev ## collect the strings to translate and compile what is translated
	@$(VENV)/python scripts/translations.py update

screenshots: venv-dev ## take the pictures of the README; ARGS=http://127.0.0.1:8000 uses a demo that runs
	@$(VENV)/python scripts/screenshots.py $(ARGS)

pictures: venv-dev ## every page at every size as a picture, in build/pictures; WHO=alice,vast
	@exec $(VENV)/python -m pytest -q tests/browser/take_pictures.py

clean: ## remove .venv and what tools keep; instance/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# Says in one line what is missing, before anything is made.
python:
	@command -v $(PYTHON) >/dev/null 2>&1 || \
		{ echo "Lastmile needs Python 3.11 or newer, and there is no $(PYTHON) on this machine." >&2; exit 1; }
	@$(PYTHON) scripts/preflight.py

venv: python
	@$(PYTHON) scripts/environment.py run

venv-dev: python
	@$(PYTHON) scripts/environment.py dev
