# Everything a newcomer needs: `make run` and `make test`.

SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Builds and starts the engine with the simulated exchange, and prints a ready-made curl line
	@scripts/run

.PHONY: run-cluster
run-cluster: ## Builds and starts three nodes with Postgres, Redis and the simulated exchange, behind nginx
	@scripts/run-cluster

# Most tests wait for servers more than they compute.
TEST_THREADS ?= $(shell echo $$((3 * $$(nproc))))

.PHONY: test
test: test-tools ## Installs what the tests need and runs all of them
	@scripts/with-env cargo nextest run --workspace --exclude loom-models --no-fail-fast \
		--test-threads $(TEST_THREADS)
	@scripts/with-env scripts/simulate --dev --seeds 3000
	@scripts/with-env scripts/simulate --dev --seeds 100 --twice
	@$(MAKE) --no-print-directory loom

.PHONY: test-tools
test-tools: ## Installs what the tests need: toolchain, cargo-nextest, Chromium, proxies, other clients
	@scripts/install-test-tools

.PHONY: loom
loom: test-tools ## Checks the lock-free code under every interleaving
	@scripts/with-env env RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
		cargo nextest run --cargo-profile simulate --package loom-models

SEEDS ?= 20000
START ?= 0

.PHONY: simulate
simulate: ## Simulates the whole order system: make simulate SEEDS=100000 START=7
	@scripts/with-env scripts/simulate --seeds $(SEEDS) --start $(START) --counts

.PHONY: mutants
mutants: ## Checks that the simulation catches every mutant of the order system
	@scripts/with-env env SEEDS=$(SEEDS) scripts/mutants

.PHONY: fuzz
SECONDS_EACH := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60)
fuzz: ## Runs each fuzz target for a while: make fuzz SECONDS=60 TARGETS="wal_recovery order_event"
	@scripts/with-env scripts/fuzz $(SECONDS_EACH) $(TARGETS)

.PHONY: miri
miri: ## Runs the lock-free code and the log's codecs under miri
	@scripts/with-env scripts/miri

.PHONY: tsan
tsan: ## Runs the lock-free sharing between threads under ThreadSanitizer
	@scripts/with-env scripts/tsan

.PHONY: check
check: ## Checks formatting and lints, and compiles the benches
	@scripts/with-env cargo fmt --all --check
	@scripts/with-env cargo clippy --workspace --all-targets -- -D warnings
	@scripts/with-env cargo clippy --workspace --features longbow/simulation --bin simulate -- -D warnings
	@scripts/with-env cargo bench --workspace --no-run --profile dev

.PHONY: bench
bench: ## Runs the criterion benches
	@scripts/with-env cargo bench --package longbow

.PHONY: load
load: ## Streams at saturation beside a bare send loop (1,000 clients, one hot symbol)
	@scripts/with-env cargo build --release --workspace
	@target/release/loadtest stream --spawn target/release/longbow --rounds 7 --seconds 5

ROUNDS ?= 200

.PHONY: crashloop
crashloop: ## Kills the engine under load ROUNDS times (200) and checks that every answer stays true
	@scripts/with-env cargo build --release --workspace --exclude loom-models
	@target/release/loadtest crash-loop --spawn target/release/longbow --rounds $(ROUNDS)

.PHONY: load-orders
load-orders: ## Orders: one at a time, 64 at a time, and 10,400 per second in an open loop, with medians
	@scripts/with-env scripts/load-orders

.PHONY: load-prices
load-prices: ## Price streams beside axum, nchan and a bare loop: all figures, over two hours; SHORT=1 for a quick check
	@scripts/with-env scripts/load-prices $(if $(SHORT),--short)

.PHONY: load-postgres
load-postgres: ## Orders with Postgres beside the baseline on Postgres: all figures, about half an hour; SHORT=1 for a quick check
	@scripts/with-env scripts/load-postgres $(if $(SHORT),--short)
