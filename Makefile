# Every target builds the environment it needs; a bare machine needs Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?=
MEMBERS ?= 10000

.PHONY: demo split-and-work big-batch fan-out million-calls test test-all fuzz chaos test-oldest test-newest test-django lint lint-infrastructure reference example-template docs picture screenshots format clean

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(READY)
	$(BIN)/python examples/django_mail/demo.py --members $(MEMBERS)

# The other examples (examples/README.md); OPTIONS are their demos' own.
OPTIONS ?=
ROWS ?= 2000
split-and-work: $(READY)
	$(BIN)/python -m examples.split_and_work.demo --rows $(ROWS) $(OPTIONS)

RECORDS ?= 10000
big-batch: $(READY)
	$(BIN)/python -m examples.big_batch.demo --records $(RECORDS) $(OPTIONS)

BATCHES ?= 200
fan-out: $(READY)
	$(BIN)/python -m examples.fan_out.demo --batches $(BATCHES) $(OPTIONS)

CALLS ?= 20000
million-calls: $(READY)
	$(BIN)/python examples/million_calls/demo.py --calls $(CALLS) $(OPTIONS)

# Files side by side, each worker with emulators of its own.
JOBS ?= 2
test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

# What anybody may send; along the code's branches too, where atheris is installed in $(VENV).
EXAMPLES ?= 2000
fuzz: $(READY)
	LAMBDA_CELERY_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest --timeout 0 tests/fuzz $(PYTEST_ARGS)

# Processes that die, messages that come twice, AWS that fails: N messages each time.
N ?= 2000
chaos: $(READY)
	$(BIN)/python tests/chaos/storm.py -n $(N)
	$(BIN)/python tests/chaos/storm.py -n $(N) --concurrency 20
	$(BIN)/python tests/chaos/storm.py -n $(N) --fifo
	$(BIN)/python tests/chaos/storm.py -n $(N) --processes 2

test-all: test test-oldest test-newest test-django

# With the oldest versions that are allowed, and with the newest; with Django's between these two.
# pyenv's interpreters are none of the PATH's, which has but its shims.
test-oldest test-newest test-django: test-%: $(READY)
	PATH="$$(printf '%s:' "$$(pyenv root 2>/dev/null)"/versions/3.*/bin)$$PATH" \
		UV_PYTHON_DOWNLOADS=never $(BIN)/nox --session $* --no-error-on-missing-interpreters

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy -p examples.kit -p examples.split_and_work -p examples.big_batch -p examples.fan_out
	$(BIN)/lint-imports --no-cache
	$(BIN)/cfn-lint examples/*/template.yaml

# What SAM and checkov say of the templates, in an environment of their own: both pin what others do.
INFRASTRUCTURE := .venv-infrastructure
$(INFRASTRUCTURE)/.ready: tests/infrastructure/requirements.txt $(READY)
	$(PYTHON) -m venv --clear --without-pip $(INFRASTRUCTURE)
	$(BIN)/uv pip install --quiet --python $(INFRASTRUCTURE)/bin/python --requirement $<
	touch $@

lint-infrastructure: $(INFRASTRUCTURE)/.ready
	$(BIN)/python tests/infrastructure/lint.py $(INFRASTRUCTURE)/bin

reference: $(READY)
	$(BIN)/python docs/reference.py

# What SAM deploys of the example, from its stanza.
example-template: $(READY)
	$(BIN)/python examples/write_template.py examples/django_mail/pyproject.toml

# The site, in site/. A link that leads nowhere is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Needs Graphviz.
picture:
	dot -Tsvg docs/images/architecture.dot -o docs/images/architecture.svg

# The pictures of the page, by its tests. Needs Debian's chromium.
screenshots: $(READY)
	LAMBDA_CELERY_SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/functional/dashboard

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(INFRASTRUCTURE) .venv-peers .nox site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
