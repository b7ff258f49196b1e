# `make` lists the targets. Everything that tests need is set up by `make test` itself.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
# More arguments for cargo test: make test ARGS="--test servers"
ARGS ?= --workspace
# KEEP=1 keeps the folder of servers and logs of a demo, a benchmark or a failed test run.
KEEP ?=

.PHONY: help build test demo bench fmt lint docs audit ci servers-prepare clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the release binary, target/release/rowcast
	scripts/prepare.sh build
	$(CARGO) build --release --bin rowcast

test: ## all tests, against real servers started for them (installs what is missing)
	scripts/prepare.sh
	ROWCAST_KEEP=$(KEEP) scripts/with-servers.sh $(CARGO) test $(ARGS)

demo: ## two databases, Kafka and the daemon between them, killed and counted; KEEP=1 leaves it up
	@KEEP="$(KEEP)" CARGO="$(CARGO)" scripts/demo.sh

bench: ## throughput, CPU and memory beside the servers' own tools
	scripts/prepare.sh
	KEEP=$(KEEP) scripts/bench.sh

fmt: ## formats the code
	$(CARGO) fmt --all

lint: ## format check, clippy without warnings, shellcheck if present
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck -x scripts/*.sh scripts/servers/*.sh .ci/run; fi

docs: ## the API documentation, without warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

audit: ## known vulnerabilities and licences, with the tools that are installed
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; else echo "cargo-deny is not installed"; fi
	@if $(CARGO) audit --version >/dev/null 2>&1; then $(CARGO) audit; else echo "cargo-audit is not installed"; fi

ci: ## what the automatic check runs
	.ci/run

servers-prepare: ## downloads and unpacks the servers for the tests
	scripts/servers.sh prepare

clean: ## removes what was built, and the downloaded servers
	$(CARGO) clean
	rm -rf .cache
