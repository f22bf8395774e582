# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
#
# Needs Debian 12 and root. Every target installs what it needs first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

# The collection under the name that Ansible and mypy know it by.
COLLECTIONS := build/collections
COLLECTION := $(COLLECTIONS)/ansible_collections/udpgrm/fleet
LINKS := $(addprefix $(COLLECTION)/,galaxy.yml meta playbooks plugins roles)
RESULTS := build/results
PYTEST = timeout --foreground --signal=INT --kill-after=60 $(1) pytest $(2) --junit-xml=$(RESULTS)/$@.xml

TYPED := udpgrm benchmarks clients demo distribution examples testbed testing tests tools tools/build_collection $(COLLECTION)/plugins
C_FILES = git ls-files --cached --others --exclude-standard 'bpf/*.[ch]' 'benchmarks/bpf/*.c' 'include/*.h' 'clients/c/*.c'
SHELL_FILES = git grep --untracked --files-with-matches -e '^\#!/bin/bash' -e '^\# shellcheck shell'

export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help
help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup packages
setup: packages .venv/installed $(LINKS) ## install what is missing: Debian packages, .venv

packages:
	@tools/install_packages tools/apt.txt testbed/apt.txt

# --no-deps: requirements-dev.txt names everything, so nothing comes in another version.
.venv/installed: requirements-dev.txt | packages
	/usr/bin/python3 -m venv --clear --system-site-packages .venv
	.venv/bin/pip install -qq --no-deps --requirement $<
	touch $@

$(LINKS):
	@mkdir -p $(@D)
	@ln -sfn ../../../../../$(@F) $@

# What cannot be in .venv, beside other versions of what is there.
build/venvs/%/installed: requirements-%.txt | packages
	/usr/bin/python3 -m venv --clear $(@D)
	$(@D)/bin/pip install -qq --no-deps --requirement $<
	touch $@

.PHONY: test unit unit-ansible kernel molecule
# Installed first: targets side by side would install it at once.
test: build/venvs/release/installed build/venvs/oldest/installed setup ## all checks and tests
	tools/side_by_side lint unit
	tools/side_by_side kernel unit-ansible servers-short molecule

# A limit is for what hangs: several times as long as it takes on two busy cores.
# Half of its time they wait.
unit: setup ## tests of single parts, without Ansible
	$(call PYTEST,600,tests/unit --ignore=tests/unit/plugins --numprocesses=4 --dist=worksteal)

unit-ansible: build/venvs/oldest/installed setup ## tests of modules, plugins and playbooks
	$(call PYTEST,2600,tests/unit/plugins --numprocesses=auto)

# These wait more than they compute.
kernel: setup ## tests with real programs and sockets
	tools/ensure_bpffs
	$(call PYTEST,2600,tests/kernel --numprocesses=4 --dist=worksteal)

# Molecule's own choice of a directory is the same for every checkout of this name.
molecule: build/venvs/oldest/installed setup ## the collection on two hosts, an upgrade and a restart under traffic included
	@mkdir -p $(RESULTS)
	ANSIBLE_LOG_PATH=$(CURDIR)/$(RESULTS)/molecule.log MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/build/molecule \
	  molecule test --scenario-name default --destroy always

# What takes too long for `make test`.
SCENARIO = MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/build/molecule-$(1) \
	timeout --foreground --signal=INT --kill-after=120 $(2) molecule test --scenario-name $(1) --destroy always

.PHONY: clients monitoring servers servers-short molecule-platforms molecule-vm molecule-rollout molecule-services molecule-lifecycle
clients: setup ## the client library in C, C++, Go, Python and Rust: one test for all, restarts of the examples
	@tools/install_packages clients/apt.txt
	tools/ensure_bpffs
	test -z "$$(gofmt -l clients/go)"
	UDPGRM_CLIENTS="c c++ go python rust" $(call PYTEST,1200,tests/kernel/registration/test_clients.py)

servers: build/venvs/servers/installed setup ## unmodified servers restarted under load of their own clients, with and without udpgrm
	@tools/install_packages testbed/servers-apt.txt testbed/profiles-apt.txt testbed/containers-apt.txt
	tools/ensure_bpffs
	$(call PYTEST,3600,tests/servers --numprocesses=6 --dist=load --maxschedchunk=1 -o faulthandler_timeout=1800)

# Of three kinds: one that shares its address by itself, SIP by the bind hook, a static binary with QUIC.
servers-short: setup ## three of these servers, three restarts each
	@tools/install_packages testbed/servers-short-apt.txt
	tools/ensure_bpffs
	$(call PYTEST,1200,tests/servers/test_profiles.py --numprocesses=3 --restarts=3 -o faulthandler_timeout=600 \
	  -k "lose_nothing and (knot or kamailio or caddy)")

monitoring: setup ## alert and recording rules, the dashboard's queries, with a real Prometheus
	@tools/install_packages monitoring/apt.txt
	tools/ensure_bpffs
	$(call PYTEST,600,tests/monitoring)

molecule-platforms: build/venvs/oldest/installed setup ## the collection on hosts of other distributions, compiled there or beforehand
	$(call SCENARIO,platforms,1200)

molecule-vm: setup ## the collection on virtual machines with the oldest kernel and a newer one
	@tools/install_packages testbed/vm-apt.txt
	$(call SCENARIO,vm,5400)

molecule-rollout: setup ## rollouts and reboots on six hosts in which things go wrong or brakes stop them, under traffic
	$(call SCENARIO,rollout,5400)

molecule-lifecycle: setup ## a server moved to a service under traffic, other control nodes, removal, umask 027 and 077
	$(call SCENARIO,lifecycle,2400)

molecule-services: setup ## DNS servers, HTTP/3 downloads, tunnels restarted under load on two hosts
	@tools/install_packages testbed/servers-apt.txt
	$(call SCENARIO,services,1200)

.PHONY: lint lint-python lint-c lint-shell lint-ansible lint-workflows lint-licences lint-reuse
lint: lint-python lint-c lint-shell lint-ansible lint-workflows lint-licences lint-reuse ## all checks that run nothing

lint-python: setup
	ruff check
	ruff format --check
	mypy $(TYPED)

lint-c: setup
	$(C_FILES) | xargs clang-format --dry-run -Werror

lint-shell: setup
	$(SHELL_FILES) | xargs shellcheck --external-sources

lint-ansible: setup
	yamllint --strict .
	ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/$(COLLECTIONS) ansible-lint
	tools/check_argument_specs.py
	antsibull-changelog lint

SCHEMA = $(CURDIR)/build/venvs/release/bin/check-jsonschema --quiet --builtin-schema vendor.github-$(1)
lint-workflows: build/venvs/release/installed
	$(call SCHEMA,workflows) .github/workflows/*.yml
	$(call SCHEMA,issue-forms) .github/ISSUE_TEMPLATE/fault.yml .github/ISSUE_TEMPLATE/request.yml
	$(call SCHEMA,issue-config) .github/ISSUE_TEMPLATE/config.yml

lint-licences: setup
	tools/check_spdx.py

lint-reuse: build/venvs/release/installed
	$(<D)/bin/reuse lint --lines

.PHONY: format
format: setup ## let the formatters have their way with Python and C
	ruff check --fix-only
	ruff format
	$(C_FILES) | xargs clang-format -i

.PHONY: kernel-6.1 kernel-filters
# Each kind of hook and program, and what kernels before 6.13 do otherwise with connected sockets.
kernel-6.1: setup ## hooks and steering on the oldest supported kernel, in a virtual machine
	@tools/install_packages testbed/vm-apt.txt
	timeout --foreground --signal=INT 7200 testbed/kernel 6.1 -o faulthandler_timeout=1800 \
	  tests/kernel/adoption/test_adoption.py tests/kernel/adoption/test_migration.py \
	  tests/kernel/connections/test_accepting.py tests/kernel/connections/test_connected.py \
	  tests/kernel/dissectors/test_filters.py \
	  tests/kernel/steering/test_liveness.py tests/kernel/steering/test_steering.py

kernel-filters: setup ## 100,000 packets through random filters, against two other interpreters
	tools/ensure_bpffs
	UDPGRM_FILTER_RUNS=100000 timeout --foreground --signal=INT 3600 pytest tests/kernel/dissectors/test_filters.py

.PHONY: fuzz
# Seconds for each parser.
FUZZ_S = 60
fuzz: build/venvs/fuzz/installed setup ## every parser that runs as root, by atheris; dissectors with sanitizers
	for target in $$(ls tests/fuzz/corpus | grep -v packets); do \
	  $(<D)/bin/python3 -m tests.fuzz $$target -max_total_time=$(FUZZ_S) -print_final_stats=1; \
	done
	python3 -m tests.fuzz.packets 2000000

.PHONY: simulate
# Another seed makes other schedules: make simulate SEED=7
SIMULATIONS = 100000
simulate: setup ## restarts in a simulated world in which everything goes wrong, one schedule after another
	timeout --foreground --signal=INT 7200 python3 -m tests.simulation $(SIMULATIONS) $(SEED)

.PHONY: soak
soak: setup ## 100 restarts in a row under 2,000 flows and 20,000 packets a second
	tools/ensure_bpffs
	timeout --foreground --signal=INT 3600 pytest tests/soak/test_restarts.py --capture=no -o faulthandler_timeout=3600

.PHONY: soak-connected soak-schedules
soak-connected: setup ## 5,000 connected sockets in each of two generations under new flows
	tools/ensure_bpffs
	timeout --foreground --signal=INT 3600 pytest tests/soak/test_accepting.py --capture=no -o faulthandler_timeout=3600

soak-schedules: setup ## 1,000 random schedules of bind, connect, close, fork, kill: counts are those of ss
	tools/ensure_bpffs
	timeout --foreground --signal=INT 3600 pytest tests/soak/test_schedules.py -o faulthandler_timeout=3600

.PHONY: demo bench bench-fleet clean
demo: setup ## three local hosts, a restart under traffic, a table of what was lost
	demo/run

bench: setup ## what steering costs, in ratios to programs that do nothing
	tools/ensure_bpffs
	benchmarks/run

bench-fleet: setup ## a rolling restart of 30 hosts against its parts, Ansible's cost on 100 more
	tools/ensure_bpffs
	/usr/bin/python3 -m benchmarks.fleet

.PHONY: deb deb-check
deb: setup ## build the Debian package, checked by lintian
	@tools/install_packages distribution/apt.txt
	tools/build_deb

deb-check: deb ## the package in a fresh container: the tutorial, an upgrade under traffic, removal
	$(call PYTEST,3600,tests/packages -o faulthandler_timeout=1200)

.PHONY: rpm rpm-check
rpm: setup ## build an RPM package
	@tools/install_packages distribution/rpm-apt.txt
	tools/build_rpm

rpm-check: rpm ## its files and scripts on Debian, by rpm: a restart, refused removal, removal
	$(call PYTEST,1200,tests/rpm)

.PHONY: version
version: setup ## set VERSION everywhere, turn the fragments into its changelog
	tools/set_version.py $(VERSION)
	antsibull-changelog release

.PHONY: release release-check
release: build/venvs/release/installed setup ## sources, collection, wheel and package, built twice; SBOM, checksums
	@tools/install_packages distribution/apt.txt
	RELEASE_KEY=$(RELEASE_KEY) tools/build_release
	$(<D)/bin/python3 tools/check_sbom.py build/release/sbom.cdx.json

release-check: setup ## each artifact of `make release` in a fresh container, and a restart from it
	UDPGRM_ARTIFACTS=$(CURDIR)/build/release $(call PYTEST,3600,tests/packages -o faulthandler_timeout=1200)

.PHONY: rulebook execution-environment
rulebook: build/venvs/rulebook/installed setup ## the rulebook by ansible-rulebook: an alert fires, the rollback is called
	@tools/install_packages extensions/apt.txt
	$(call PYTEST,600,tests/eda)

EXECUTION = build/execution-environment
execution-environment: build/venvs/collection/installed ## what an image for AWX is built of
	rm -rf $(EXECUTION) $(EXECUTION)-files
	install -d $(EXECUTION)-files
	PATH=$(CURDIR)/$(<D)/bin:$$PATH tools/build_collection --output $(EXECUTION)-files
	mv $(EXECUTION)-files/udpgrm-fleet-*.tar.gz $(EXECUTION)-files/udpgrm-fleet.tar.gz
	cp distribution/awx/execution-environment.yml $(EXECUTION)-files
	$(<D)/bin/ansible-builder create --file $(EXECUTION)-files/execution-environment.yml \
	  --context $(EXECUTION) --output-filename Containerfile
	test -s $(EXECUTION)/_build/files/udpgrm-fleet.tar.gz

.PHONY: collection sanity importer docs
# With any ansible-core, and without root: it is all that this needs.
collection: ## build the tarball of the collection
	tools/build_collection

sanity: build/venvs/oldest/installed setup ## ansible-test sanity, with the newest and the oldest supported ansible-core
	tools/run_sanity
	PYTHON=$(CURDIR)/$(<D)/bin/python3 tools/run_sanity

importer: build/venvs/collection/installed ## what Galaxy checks of the tarball
	PATH=$(CURDIR)/$(<D)/bin:$$PATH tools/run_importer

docs: build/venvs/collection/installed ## the documentation as a site, in build/site, its links checked
	PATH=$(CURDIR)/$(<D)/bin:$$PATH tools/build_site

clean: ## remove everything that was made here
	rm -rf build .venv .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
