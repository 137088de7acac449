# The checks. `make check` is what .ci/run runs, and what the README tells.

.PHONY: check check-all format static

check: static ## everything but the slow tests
	pytest -m "not slow" -n 2

check-all: static ## everything
	pytest -n 2

static:
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: ## what ruff can put right by itself
	ruff check --fix .
	ruff format .
