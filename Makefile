# Two commands do everything: `make serve` and `make test`. Nothing but Python 3.11 to 3.13, make and git is needed.
SHELL := /bin/bash
# Empty: python3, or python3.11 to python3.13 if that is another version. What is named here is used.
PYTHON ?=
VENV ?= .venv
ifneq ($(words $(VENV)),1)
$(error VENV is '$(VENV)', and make takes only a path without spaces there; a relative one will do)
endif
PORT ?= 3000
BIN := $(VENV)/bin
# Nobody's deployment reports home because it followed this README.
export BENTOML_DO_NOT_TRACK ?= True
# What is printed and read is UTF-8, whatever the locale: in that of an old system, training would fail at its first "…".
export PYTHONUTF8 ?= 1

.DEFAULT_GOAL := help
.PHONY: help install models serve test lint format docs lock bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Looked at each time, and made anew when its Python is gone, is not supported, or is not the one that PYTHON names.
.PHONY: look
.PRECIOUS: $(VENV)/pyvenv.cfg
$(VENV)/pyvenv.cfg: look
	@bash requirements/python.sh venv '$(VENV)' '$(PYTHON)'

$(VENV)/.installed: $(VENV)/pyvenv.cfg requirements/dev.lock requirements/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements/dev.lock
	@# the 'serving' command; what it is built with is in the lock already
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --offline --no-deps --no-build-isolation --editable .
	touch $@

install: $(VENV)/.installed  ## make .venv with the locked dependencies

models: install  ## train or export the models that are not in the store yet
	@$(BIN)/python -m train

serve: models  ## train what is missing and serve on PORT (3000)
	$(BIN)/python -m bentoml serve service:svc --port $(PORT)

# Ray gives up when a dozen processes of its own have not started within seconds: nothing else runs beside it.
ALONE := tests/batch/test_files_ray.py
# Files of tests stay together, and in the order that tests/distribution.py gives them. One process more than there are
# cores, as much of the time is waiting: for leases, servers, other processes.
test: install  ## run all tests
	$(BIN)/python -m pytest --ignore $(ALONE) --dist loadfile --no-loadscope-reorder \
		--numprocesses "$$($(BIN)/python -c 'import os; print(min(1 + (os.cpu_count() or 1), 4))')"
	$(BIN)/python -m pytest $(ALONE)

# All tests run on one Python; on the others, what a start needs, and tests of what depends on versions of libraries.
STARTS := tests/smoke tests/core tests/grpc tests/bento/test_runners.py tests/store/test_models.py tests/settings
.PHONY: test-python test-pythons
test-python: install  ## train, serve, predict and run some quick tests; for PYTHON=, with VENV= for an environment of its own
	$(BIN)/python -m pytest --quiet --dist loadfile --numprocesses 2 $(STARTS)

test-pythons: install  ## run test-python on every other supported Python that is found, each in .build/pythonVERSION
	@here="$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"; others=0; \
	while read -r version program; do \
		test "$$version" = "$$here" && continue; \
		others=1; echo "Python $$version: $$program"; \
		$(MAKE) --no-print-directory test-python PYTHON="$$program" VENV=".build/python$$version" </dev/null || exit; \
	done < <(bash requirements/python.sh list); \
	test "$$others" = 1 || echo "no supported Python other than $$here was found: nothing is tested on another"

# Models and photos out of other packages' wheels, the same ones on every Python: nothing of them is installed.
.PHONY: test-packages
.build/wheels/.fetched: requirements/test-packages.txt | $(VENV)/.installed
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		--python-version 3.11 --implementation cp --abi cp311 --abi none --platform manylinux_2_28_x86_64 \
		--platform any --dest .build/wheels --requirement requirements/test-packages.txt
	touch $@

test-packages: .build/wheels/.fetched  ## fetch the models that some tests take out of other packages

# Clients of other servers in environments of their own (those of the benchmarks' peers), and Node's programs.
PROGRAMS := tests/e2e/programs
.PHONY: test-programs lock-programs
.build/programs/.installed: $(PROGRAMS)/package.json $(PROGRAMS)/package-lock.json
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

test-programs: .build/peers/kserve/.installed .build/peers/mlserver/.installed  ## install the programs of others that some tests run
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory .build/programs/.installed; \
		else echo "left out: there is no npm" >&2; fi

lock-programs:  ## resolve the programs of Node anew
	npm install --prefix $(PROGRAMS) --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

# The optional engine is tested where it is installed, in an environment of its own: the default one shows that
# nothing needs it.
OPENVINO := .build/openvino-venv
$(OPENVINO)/.installed: $(VENV)/pyvenv.cfg requirements/dev.lock requirements/openvino.lock | $(VENV)/.installed
	$(BIN)/python -m venv --clear $(OPENVINO)
	VIRTUAL_ENV=$(OPENVINO) $(BIN)/uv pip sync --quiet --require-hashes requirements/dev.lock requirements/openvino.lock
	touch $@

.PHONY: test-openvino bench-engines
test-openvino: $(OPENVINO)/.installed  ## run the tests of the engines with OpenVINO installed
	$(OPENVINO)/bin/python -m pytest tests/core/test_openvino_engine.py

bench-engines: models $(OPENVINO)/.installed  ## measure the engines of InceptionV3 side by side; takes ten minutes
	$(BIN)/python -m benchmarks.engines

# What a broken Bento would most likely come from; .ci/run has run everything.
QUICK := tests/http tests/core tests/codecs tests/settings tests/test_architecture.py tests/store/test_models.py
.PHONY: bento image image-test audit
bento: models  ## run the quick tests and build the Bento, at the version that git describes
	$(BIN)/python -m pytest --quiet $(QUICK)
	$(BIN)/python -m deploy.bento

image: models  ## build the Bento, its image with docker, podman or buildah, and a bill of materials in .build/image
	$(BIN)/python -m deploy.image

image-test: models  ## build and run the real image, with podman; where no registry is reached, on a Debian made here
	IMAGE_TEST=1 $(BIN)/python -m pytest tests/image -rP

audit: install  ## look for known vulnerabilities of the libraries that are served
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements/serve.lock

lint: install  ## ruff, mypy, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## let ruff format and sort
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## write what other files are the source of: tables of README.md, copies in deploy/kubernetes
	$(BIN)/python -m tests.docs.generated
	$(BIN)/python -m tests.deploy.copies

# Messages and services of the gRPC protocols, as one set of descriptors.
PROTOS := serving/grpc/protos
.PHONY: protos
protos: install  ## compile the definitions of the gRPC protocols
	$(BIN)/python -m grpc_tools.protoc --proto_path=$(PROTOS) --include_imports \
		--descriptor_set_out=$(PROTOS)/../descriptors.binpb $(shell cd $(PROTOS) && find . -name '*.proto' | cut -c3- | LC_ALL=C sort)

COMPILE_COMMAND = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--override requirements/overrides.txt
COMPILE = $(COMPILE_COMMAND) --custom-compile-command 'make lock'
lock: $(VENV)/pyvenv.cfg  ## resolve the dependencies anew into requirements/
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(COMPILE) pyproject.toml --extra train --extra files --extra s3 --extra gcs --extra ray --extra dev --output-file requirements/dev.lock
	$(COMPILE) pyproject.toml --constraints requirements/dev.lock --output-file requirements/serve.lock
	$(COMPILE) pyproject.toml --extra s3 --constraints requirements/dev.lock --output-file requirements/s3.lock
	$(COMPILE) pyproject.toml --extra openvino --constraints requirements/dev.lock --output-file requirements/openvino.lock
	grep -E '^uv==' requirements/dev.lock | sed 's/ \\$$//' | \
		$(COMPILE) - --output-file requirements/uv.lock

# One environment for each framework that bench compares with: benchmarks/peers/<name>.in, .lock -> .build/peers/<name>.
PEERS := $(patsubst benchmarks/peers/%.in,%,$(wildcard benchmarks/peers/*.in))
.build/peers/%/.installed: benchmarks/peers/%.lock | $(VENV)/.installed
	$(BIN)/python -m venv --clear .build/peers/$*
	VIRTUAL_ENV=.build/peers/$* $(BIN)/uv pip sync --quiet --require-hashes $<
	touch $@

.PHONY: bench-peers
bench-peers: install  ## make the environments of the servers that bench compares with
	@for peer in $(PEERS); do \
		$(MAKE) --no-print-directory .build/peers/$$peer/.installed || \
			{ rm -rf .build/peers/$$peer; echo "left out: $$peer cannot be installed here" >&2; }; \
	done

# With the service's versions, except that MLServer wants an older FastAPI and KServe an older psutil: with its engine there.
.PHONY: lock-peers
lock-peers: install  ## resolve the peers anew
	@mkdir -p .build/peers
	@grep -E '^(numpy|onnxruntime)==' requirements/dev.lock | sed 's/ \\$$//' > .build/peers/engine.lock
	@for peer in $(PEERS); do \
		constraints=requirements/dev.lock; \
		case $$peer in mlserver|kserve) constraints=.build/peers/engine.lock;; esac; \
		$(COMPILE_COMMAND) --custom-compile-command 'make lock-peers' --constraints $$constraints \
			benchmarks/peers/$$peer.in --output-file benchmarks/peers/$$peer.lock || exit 1; \
	done

bench: models bench-peers  ## measure this service against its peers; takes about an hour
	$(BIN)/python -m benchmarks

.PHONY: bench-overload
bench-overload: models  ## offer ten times the sustainable load for a minute; takes about six minutes
	$(BIN)/python -m benchmarks overload

.PHONY: bench-jobs
bench-jobs: models  ## measure jobs in SQLite and in Redis; takes about five minutes
	$(BIN)/python -m benchmarks jobs

.PHONY: bench-batch
bench-batch: models  ## measure rows in sets, in each kind of database and in files; takes about half an hour
	$(BIN)/python -m benchmarks batch

# Passwords that nobody has to think of, readable by nobody else; whoever has a file of their own keeps it.
deploy/.env:
	@umask 077; for name in REDIS MARIADB GRAFANA; do echo "$${name}_PASSWORD=$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; done > $@

.PHONY: compose
compose: deploy/.env  ## start the image MODEL_SERVING_VERSION with Redis, MariaDB, Prometheus and Grafana (docker compose)
	@test -n "$(MODEL_SERVING_VERSION)" || { echo 'MODEL_SERVING_VERSION= is missing: the version that make image has made' >&2; exit 2; }
	MODEL_SERVING_VERSION=$(MODEL_SERVING_VERSION) docker compose --file deploy/compose.yaml up --detach --wait

.PHONY: bench-protocols
bench-protocols: models bench-peers  ## measure each protocol beside other servers that speak it; takes ten minutes
	$(BIN)/python -m benchmarks protocols

clean:  ## remove the environment and caches (the model store stays)
	rm -rf $(VENV) .build .pytest_cache .mypy_cache .ruff_cache .hypothesis
