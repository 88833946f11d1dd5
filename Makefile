# Every command that builds, runs or checks farebox. All use one target folder, and
# all but `bench` the debug profile.

CACHE := $(or $(FAREBOX_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/farebox)
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/tools/cargo-deny-$(CARGO_DENY_VERSION)

# Tests wait for nodes and sockets more than they work. On large machines they are quick in any case.
CORES := $(shell nproc 2>/dev/null || echo 2)
export RUST_TEST_THREADS ?= $(shell expr 2 '*' $(if $(filter 1 2 3 4 5 6 7,$(CORES)),$(CORES),8))

TARGET ?= header
SECS ?= 60

.PHONY: help
help: ## List the targets
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## Show a channel from opening to settlement on regtest (ARGS="...")
	@scripts/setup demo
	@cargo build --locked --bin farebox
	@cargo run --quiet --locked --bin farebox -- demo $(ARGS)

.PHONY: test
test: ## Run all tests
	@scripts/setup test
	cargo test --workspace --locked

# Builds the release binary too: cargo builds a package's programs for its benches.
.PHONY: bench
bench: ## Measure what paying costs, beside nginx (ARGS="--help")
	@scripts/setup bench
	cargo bench --locked --bench proxy -- $(ARGS)

.PHONY: world
world: ## Play worlds from seeds, each with all its mishaps (SEEDS=5000 FIRST=0)
	FAREBOX_WORLD_SEEDS=$(or $(SEEDS),1000) FAREBOX_WORLD_FIRST=$(or $(FIRST),0) \
		cargo test --locked --test world no_law

# Needs a nightly toolchain, cargo-fuzz (`cargo install cargo-fuzz`) and a C++ compiler. What a
# run finds new goes to its work folder, not to the corpus; `cargo fuzz cmin` chooses from it.
.PHONY: fuzz
fuzz: ## Look for inputs that break a target (TARGET=header SECS=60)
	@mkdir -p fuzz/work/$(TARGET)
	CARGO_PROFILE_RELEASE_LTO=off cargo +nightly fuzz run $(TARGET) fuzz/work/$(TARGET) fuzz/corpus/$(TARGET) -- \
		-max_total_time=$(SECS) -timeout=10

.PHONY: check
check: fmt clippy doc deny purity ## Run all checks but the tests

.PHONY: setup
setup: ## Install what demo and test need
	@scripts/setup test

.PHONY: fmt
fmt: ## Check the format
	cargo fmt --all --check

.PHONY: clippy
clippy: ## Check the lints
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	cargo clippy -p farebox-client --all-targets --locked -- -D warnings

.PHONY: doc
doc: ## Check and build the documentation
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

# Built without optimisation and debug information, which takes a third of the
# time, and kept in the cache.
.PHONY: deny
deny: ## Check licences, banned crates and sources of the dependencies
	@test -x "$(CARGO_DENY)/bin/cargo-deny" || \
		CARGO_PROFILE_DEV_DEBUG=0 cargo install cargo-deny --locked --version $(CARGO_DENY_VERSION) --debug --root "$(CARGO_DENY)"
	"$(CARGO_DENY)/bin/cargo-deny" --workspace --all-features --locked check bans licenses sources

.PHONY: purity
purity: ## Check that the channel crate depends on nothing that does IO
	scripts/purity
