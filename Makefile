# Picket. `make` alone says what there is.

CARGO ?= cargo
PYTHON ?= python3
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR

WASM_TARGET := wasm32-wasip1
ENVOY := .tools/envoy
# The end-to-end tests and the demo look for the binaries here.
BINARIES := $(CARGO_TARGET_DIR)/debug
DEMO := $(BINARIES)/picket-demo
# What is measured is built for release, the policy service as well as what makes the load.
BENCH := $(CARGO_TARGET_DIR)/release/picket-bench
INSTRUCTIONS := $(CARGO_TARGET_DIR)/release/picket-instructions
REPORT := target/bench/report.json
# All crates but the filter, which no test links. One selection for all targets: another one would build dependencies anew.
CRATES := --workspace --exclude picket-filter
# What the demo runs. Without default features, which are the benchmarks alone.
PROGRAMS := picket-policy-service picket picket-demo
# Test targets by what they need: Envoy, a database, or nothing but the unit tests in the crates need.
E2E_TESTS := $(basename $(notdir $(wildcard tests/tests/*.rs)))
DATABASE_TESTS := service storage
UNIT_TESTS := $(filter-out $(E2E_TESTS) $(DATABASE_TESTS),$(basename $(notdir $(patsubst %/main.rs,%,\
  $(wildcard */tests/*.rs */tests/*/main.rs */*/tests/*.rs */*/tests/*/main.rs)))))
# Tests in modules of this name need what `make tools` does not fetch.
INSTALLED_TESTS := installed::
# Where `make test-storage` finds a PostgreSQL with TLS; `/usr` on systems other than Debian.
PICKET_POSTGRESQL ?= $(lastword $(sort $(wildcard /usr/lib/postgresql/*)))
# How long each fuzz target runs.
FUZZ_SECONDS ?= 600
# How many random requests vary-hunt asks.
VARY_REQUESTS ?= 1000000
MODULE := $(CARGO_TARGET_DIR)/$(WASM_TARGET)/wasm/picket_filter.wasm
SCHEMA := envoy/picket-filter.schema.json
EXAMPLES := $(CARGO_TARGET_DIR)/examples-checked

.DEFAULT_GOAL := help
.PHONY: help build module tools envoy postgresql demo up down test unit e2e tutorial test-storage storage-needs doc trap-hunt vary-hunt fuzz bench bench-quick bench-memory bench-scale bench-document bench-needs bench-build instructions check check-examples reference schema clean

help: ## Say what there is
	@echo "Picket: each request in the mesh proves itself. It needs Rust, Python 3.11 and make."
	@echo
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-22s %s\n' "$$name" "$$text"; done

build: module ## Build the policy service, the command line, the demo, and the filter for Envoy
	$(CARGO) build $(CRATES) --no-default-features $(addprefix --bin ,$(PROGRAMS))

module:
	$(CARGO) build --profile wasm --target $(WASM_TARGET) -p picket-filter
	$(PYTHON) scripts/trim-module "$(MODULE)"

tools: envoy postgresql ## Fetch Envoy and PostgreSQL, pinned by hash, into .tools

envoy:
	$(PYTHON) scripts/fetch-tool envoy

postgresql:
	$(PYTHON) scripts/fetch-tool postgresql

demo: build envoy ## Start everything, send the scenario, print a table, end everything
	"$(DEMO)" run

up: build envoy ## Start everything and leave it running; prints lines for curl
	"$(DEMO)" up

down: ## End exactly what `make up` started
	@if [ -x "$(DEMO)" ]; then "$(DEMO)" down; elif [ -e .run/stack.json ]; then \
	  echo "error: something was started and $(DEMO) is gone: make build" >&2; exit 1; else echo "Nothing was running."; fi

test: build tools ## All tests but those of make test-storage: units, vectors, storage, end to end in a real Envoy
	$(CARGO) test $(CRATES) -- --skip $(INSTALLED_TESTS)
	$(PYTHON) -m unittest discover -q -s scripts
	$(PYTHON) scripts/run-tutorial
	@echo "Not run: the tests that need an installed PostgreSQL with TLS, and PgBouncer (make test-storage)."

unit: ## The tests that need neither Envoy nor a database
	$(CARGO) test $(CRATES) --lib $(addprefix --test ,$(UNIT_TESTS))
	$(PYTHON) -m unittest discover -q -s scripts

e2e: build envoy ## The tests in a real Envoy, and the tutorial
	$(CARGO) test $(CRATES) $(addprefix --test ,$(E2E_TESTS))
	$(PYTHON) scripts/run-tutorial

tutorial: build envoy ## Run the commands of docs/tutorial.md, and compare their output
	$(PYTHON) scripts/run-tutorial

test-storage: storage-needs ## The storage tests on an installed PostgreSQL, with TLS and through PgBouncer
	PICKET_POSTGRESQL="$(PICKET_POSTGRESQL)" $(CARGO) test $(CRATES) --test storage
	PICKET_POSTGRESQL="$(PICKET_POSTGRESQL)" $(CARGO) test $(CRATES) --test service $(INSTALLED_TESTS)

# First, so that nobody waits for a build to be told.
storage-needs:
	@test -x "$(PICKET_POSTGRESQL)/bin/initdb" || \
	  { echo "error: PostgreSQL is not installed: apt-get install postgresql, or set PICKET_POSTGRESQL=/usr" >&2; exit 1; }
	@ls /usr/sbin/pgbouncer /usr/bin/pgbouncer 2>/dev/null | grep -q . || \
	  { echo "error: PgBouncer is not installed: apt-get install pgbouncer" >&2; exit 1; }

doc: ## The documentation of the code, for contributors; a warning is an error
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items

trap-hunt: build envoy ## Mutated requests against the real Envoy: PICKET_TRAP_HUNT_REQUESTS, PICKET_TRAP_HUNT_SEED
	$(CARGO) test -p picket-tests --test trap_hunt -- --nocapture

vary-hunt: ## A million random requests over random policies: a cached answer is the one that a fresh evaluation gives
	PICKET_VARY_REQUESTS=$(VARY_REQUESTS) $(CARGO) test --release -p picket-policy --lib a_cached_answer

fuzz: ## Fuzz each parser of core for FUZZ_SECONDS (600); needs cargo-fuzz and a nightly toolchain
	$(PYTHON) scripts/fuzz --seconds $(FUZZ_SECONDS)

bench: bench-build ## Measure what Picket costs in Envoy beside native filters: under 15 minutes on a quiet machine
	$(BENCH) run --rounds 8 --report $(REPORT)
	$(BENCH) decide --report $(REPORT)
	$(BENCH) document --report $(REPORT) --into docs

bench-quick: bench-build ## The five ratios that matter most, in under 3 minutes
	$(BENCH) run --quick --report $(REPORT)

bench-memory: bench-build ## The memory of a worker's VM, minute by minute for 10 minutes; goes into the last report
	$(BENCH) memory --report $(REPORT)

bench-scale: bench-build ## Decide with 1,000,000 sessions, with 200,000 devices and with risk; goes into the last report
	$(BENCH) scale --report $(REPORT)

bench-document: bench-build ## Write docs/benchmarks.md and its plots from the last report of make bench
	$(BENCH) document --report $(REPORT) --into docs

# First, so that nobody waits for a build to be told.
bench-needs:
	@command -v h2load >/dev/null || { echo "error: h2load is missing: apt-get install nghttp2-client" >&2; exit 1; }

bench-build: bench-needs envoy module
	$(CARGO) build --release -p picket-policy-service -p picket -p picket-tests --bins

instructions: ## Count the instructions of core's hot functions, and hold them to their limits
	@command -v valgrind >/dev/null || { echo "error: valgrind is missing: apt-get install valgrind" >&2; exit 1; }
	$(CARGO) build --release -p picket-tests --bin picket-instructions
	$(INSTRUCTIONS)

check: ## Format, lints for both targets, fuzz targets that compile, boundaries, documents, reference, examples, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --target $(WASM_TARGET) -p picket-filter -p picket-core -- -D warnings
	@$(MAKE) --no-print-directory doc
	$(CARGO) check --manifest-path fuzz/Cargo.toml --no-default-features --locked
	$(PYTHON) scripts/check-core-is-pure
	$(PYTHON) scripts/check-structure
	$(PYTHON) scripts/check-documents
	$(CARGO) build --quiet -p picket -p picket-reference
	"$(BINARIES)/picket-reference" --check
	"$(BINARIES)/picket" config schema > "$(CARGO_TARGET_DIR)/picket-filter.schema.json"
	@cmp -s "$(CARGO_TARGET_DIR)/picket-filter.schema.json" $(SCHEMA) || \
	  { echo "error: $(SCHEMA) is not what the code says: make schema" >&2; exit 1; }
	@$(MAKE) --no-print-directory check-examples
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	  else echo "cargo-deny is not installed: licences and advisories were NOT checked"; fi

# In a copy, as keys and databases come into being beside the files.
check-examples: ## Check the files in examples with the command line
	$(CARGO) build --quiet -p picket
	@rm -rf "$(EXAMPLES)" && mkdir -p "$(EXAMPLES)" && cp -r examples/. "$(EXAMPLES)" && mkdir -p "$(EXAMPLES)/state"
	@rm -rf "$(EXAMPLES)/keys" && "$(BINARIES)/picket" pki init "$(EXAMPLES)/keys" --trust-domain example.org \
	  --workload web --workload orders --workload policy-service --workload operator >/dev/null
	@for file in "$(EXAMPLES)"/*.json "$(EXAMPLES)"/*.toml "$(EXAMPLES)"/issuers/*.json; do \
	  "$(BINARIES)/picket" config check "$$file" || exit; done
	"$(BINARIES)/picket" policy check examples/policies
	"$(BINARIES)/picket" policy test examples/policies

reference: ## Write docs/reference from the code: keys, reasons, metrics, the command line, limits
	$(CARGO) run --quiet -p picket-reference

schema: ## Write the JSON Schema of the filter's configuration
	$(CARGO) run --quiet -p picket -- config schema > $(SCHEMA)

clean: down ## Remove what was built; what was fetched stays in .tools
	$(CARGO) clean
	rm -rf .run
