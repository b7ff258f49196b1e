# `make` lists the targets. Everything that tests need is set up by `make test` itself.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
# More arguments for cargo test: make test ARGS="--test servers"
ARGS ?= --workspace
# KEEP=1 keeps the folder of servers and logs of a demo, a benchmark or a failed test run.
KEEP ?=

.PHONY: help build test chaos fold fuzz record-debezium diff-debezium demo bench race fmt lint docs audit ci servers-prepare clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the release binary, target/release/rowcast
	scripts/prepare.sh build
	$(CARGO) build --release --bin rowcast

test: ## all tests, against real servers started for them (installs what is missing)
	scripts/prepare.sh
	ROWCAST_KEEP=$(KEEP) scripts/with-servers.sh $(CARGO) test $(ARGS)

# The length of `make chaos`: kills per database and mode, seconds of everything at once, at half load, and beside a slow Kafka.
KILLS ?= 1000
CHAOS_SECONDS ?= 600
SOAK ?= 600
SLOW ?= 3600

chaos: ## the long form of tests/chaos: kills, everything at once, half load; ROWCAST_CHAOS_SEED=... repeats a run's choices
	scripts/prepare.sh
	ROWCAST_CHAOS_KILLS=$(KILLS) ROWCAST_CHAOS_SECONDS=$(CHAOS_SECONDS) ROWCAST_CHAOS_SOAK=$(SOAK) ROWCAST_CHAOS_SLOW=$(SLOW) \
	  ROWCAST_KEEP=$(KEEP) scripts/with-servers.sh $(CARGO) test --release --test chaos -- --include-ignored --nocapture --test-threads 1

# Seconds of `make fold`, and the seed of its first half minute, by chance: each has the next one, and says it.
FOLD_SECONDS ?= 600
FOLD_SEED ?= $(shell echo $$((RANDOM * 32768 + RANDOM)))

fold: ## the long form of the fold tests: tables of all three servers changed at random, against what the topics add up to; FOLD_SEED=... repeats
	scripts/prepare.sh
	ROWCAST_FOLD_SECONDS=$(FOLD_SECONDS) ROWCAST_FOLD_SEED=$(FOLD_SEED) ROWCAST_KEEP=$(KEEP) \
	  scripts/with-servers.sh $(CARGO) test --test postgres --test mysql fold:: -- --nocapture --test-threads 1

# Seconds per target of `make fuzz`.
FUZZ_SECONDS ?= 60

fuzz: ## what reads bytes of the servers, against bytes that none sends (a nightly compiler and cargo-fuzz)
	FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz.sh

record-debezium: ## runs the real Debezium and writes down what it says: tests/debezium/recorded
	scripts/prepare.sh
	ROWCAST_KEEP=$(KEEP) CARGO="$(CARGO)" scripts/debezium-record.sh

diff-debezium: ## the real Debezium and Rowcast on the same databases at once, compared byte for byte
	scripts/prepare.sh
	ROWCAST_KEEP=$(KEEP) CARGO="$(CARGO)" scripts/debezium-record.sh --test live

demo: ## two databases, Kafka and the daemon between them, killed and counted; KEEP=1 leaves it up
	@KEEP="$(KEEP)" CARGO="$(CARGO)" scripts/demo.sh

bench: ## throughput, CPU and memory beside the servers' own tools
	scripts/prepare.sh
	KEEP=$(KEEP) scripts/bench.sh

# Rounds of the race, and changes in its backlog.
ROUNDS ?= 3
CHANGES ?= 1000000

race: ## Rowcast beside the real Debezium on the same backlog, with a plot: docs/race.svg (Java 21 or later)
	scripts/prepare.sh
	scripts/servers.sh debezium-server >/dev/null
	ROWCAST_RACE_ROUNDS=$(ROUNDS) ROWCAST_RACE_PLOT=$${ROWCAST_RACE_PLOT:-$(CURDIR)/docs/race.svg} \
	  scripts/with-servers.sh --only "pg mysql kafka" $(CARGO) bench --bench race -- $(CHANGES)

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
