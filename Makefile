PYTHON ?= python3.11
VENV ?= .venv
# On a machine without CUDA, TORCH_INDEX=https://download.pytorch.org/whl/cpu saves gigabytes.
TORCH_INDEX ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup demo bench test lint format clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    train, convert, build, run in the virtual STM32F746, report (runs/demo/report.html)"
	@echo "make bench   public models beside other runtimes (docs/performance.md); needs TINYBOOST_DATA"
	@echo "make test    lint and all tests"
	@echo "make lint    ruff, mypy, clang-format"
	@echo "make format  rewrite the sources in the project's style"
	@echo "make setup   only install: system packages, virtual environment, pinned dependencies"

setup: $(INSTALLED)

# torch goes first and alone: resolved with the rest, pip may take a build with CUDA packages instead.
$(INSTALLED): constraints.txt pyproject.toml tools/system_packages.sh
	sh tools/system_packages.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/tinyboost demo

bench: setup
	$(BIN)/python -m benchmarks.run

test: setup lint
	$(BIN)/pytest -n 2 --dist loadgroup

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	git ls-files '*.cc' '*.h' | xargs $(BIN)/clang-format --dry-run --Werror

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	git ls-files '*.cc' '*.h' | xargs $(BIN)/clang-format -i

clean:
	rm -rf build runs
