# fracturelab: `make help` lists what can be made. Needs make and a Python 3.11, 3.12 or 3.13; all else goes to .venv.
# Another Python: make PYTHON=/path/to/python3.12 ...

PYTHON ?=
DATA ?=
ONLY ?=
FULL ?=
FLAGS ?=
WORKERS ?= 2
ADDRESS ?= localhost
PORT ?= 8501

PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
# uv installs the same pins in a third of pip's time; where it can't be had or can't reach the packages, pip does it.
UV := uv==0.13.9
install = $(PY) -m uv pip install --python $(PY) --compile-bytecode -r $(1) || $(PIP) install -r $(1)
# Tests of a file share what they train. Files in the order of their names: pytest-xdist would leave files of few, long
# tests to the end, where one worker waits for the other.
SPREAD = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
export TF_CPP_MIN_LOG_LEVEL ?= 3
export DATA ONLY FULL

# An environment that was moved together with its folder still points to the old place: set it up anew.
$(shell [ ! -e .venv/ready ] || [ "$$(cat .venv/path 2>/dev/null)" = "$$(pwd)" ] || rm -f .venv/ready)

.DEFAULT_GOAL := help
.PHONY: help setup notebooks notebooks-all test test-everything test-machines test-long test-versions check format lab app readme presentation bench pins clean distclean

help: ## list what can be made
	@echo "fracturelab. Not for clinical use."
	@echo
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo
	@echo "  make notebooks DATA=path/to/xrays   the same notebooks over your own folder, under reports/runs/"
	@echo "  make notebooks ONLY=04              one notebook"

setup: .venv/ready ## create .venv with the pinned packages

notebooks: .venv/ready ## run the notebooks on the embedded default; DATA=folder for your own X-rays
	@$(PY) -m scripts.notebooks $(if $(DATA),--data "$$DATA") $(if $(ONLY),--only "$$ONLY") $(FLAGS)

notebooks-all: .venv/ready ## run every notebook there is, those about single topics included
	@$(PY) -m scripts.notebooks --all $(if $(DATA),--data "$$DATA") $(FLAGS)

test: .venv/dev ## run the whole test suite; at its end it lists what was not tested, and why
	@$(PY) -m pytest $(SPREAD) $(FLAGS)

test-everything: .venv/dev .venv/optional .venv/torch ## the same with every optional package; an unexpected skip fails
	@FRACTURELAB_STRICT=1 $(PY) -m pytest $(SPREAD) $(FLAGS)

test-machines: .venv/dev ## run what computes under other arithmetic, timing and order; writes reports/robustness.md
	@$(PY) -m scripts machines

test-long: .venv/dev ## run what takes long: notebooks 05 to 09, fuzzing, kills at random moments, 100,000 files
	@$(PY) -m pytest -m long $(SPREAD) $(FLAGS)

test-versions: .venv/dev ## run the suite on the oldest and the newest packages that pyproject.toml allows
	@for versions in lowest-direct highest; do \
		echo "packages: $$versions"; \
		$(PY) -m uv venv -q --clear .venv/$$versions && \
		$(PY) -m uv pip install -q --python .venv/$$versions --resolution $$versions -e ".[cpu,dev,export]" && \
		.venv/$$versions/bin/python -m pytest $(SPREAD) $(FLAGS) || exit 1; \
	done

check: .venv/dev ## lint, format (notebooks included) and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: .venv/dev ## mend what the linter and the formatter can mend
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

lab: .venv/ready ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab notebooks

app: .venv/app ## open the page for X-rays of your own, on this machine only
	@$(PY) -m streamlit run app/app.py --server.address "$(ADDRESS)" --server.port "$(PORT)" $(FLAGS)

readme: .venv/ready ## fill the tables of README and docs from the run records, and draw README's pictures
	@$(PY) -m scripts fill README.md docs/results.md docs/traps.md docs/speed.md docs/cards/model-fracturelab-small.md
	@$(PY) -m scripts.readme_picture

presentation: .venv/slides ## write reports/fracturelab.pptx: slides whose numbers come from the run records
	@$(PY) -m scripts presentation

bench: .venv/optional ## time everything beside the usual recipe; ONLY=name for one comparison, FULL=1 for the full size
	@$(PY) -m benchmarks $(if $(ONLY),--only "$$ONLY") $(if $(FULL),--size full) $(FLAGS)

pins: .venv/ready ## resolve requirements.txt and requirements/ anew from pyproject.toml
	@$(PIP) install -q "$(UV)"
	@$(PY) scripts/update_pins.py

clean: ## remove caches of tools; results, models and runs stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests notebooks scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## remove .venv as well
	rm -rf .venv

# The first Python that runs, is of a supported version, and can make environments.
.venv/ready: requirements.txt pyproject.toml
	@found=""; \
	for python in "$(PYTHON)" python3.11 python3.12 python3.13 python3 python; do \
		[ -n "$$python" ] || continue; \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
			>/dev/null 2>&1; then found="$$python"; break; fi; \
		if [ "$$python" = "$(PYTHON)" ]; then break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "fracturelab needs Python 3.11, 3.12 or 3.13 with its venv module; none was found on the PATH." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12)," >&2; \
		echo "or name it: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	echo "Setting up .venv with $$("$$found" --version) and the pinned packages: one to five minutes."; \
	rm -f .venv/ready .venv/dev .venv/app .venv/slides .venv/optional .venv/torch; \
	"$$found" -m venv .venv
	@$(PIP) install -q "$(UV)" 2>/dev/null || true
	@$(call install,requirements.txt) || { echo "The packages could not be installed: is the package index reachable?" \
		"Run make setup again; what was fetched is kept." >&2; exit 1; }
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@pwd > .venv/path
	@touch .venv/ready
	@echo "Ready. Next: make notebooks, or source .venv/bin/activate and fracturelab --help"

# What an extra adds, such as .venv/app from requirements/app.txt.
.venv/%: requirements/%.txt .venv/ready
	@echo "Installing $<"
	@$(call install,$<)
	@touch $@

# pip takes the wheel that the machine offers; uv would fetch the build for graphics cards, of several gigabytes.
.venv/torch: requirements/torch.txt .venv/ready
	@echo "Installing $<"
	@$(PIP) install -q -r $<
	@touch $@
