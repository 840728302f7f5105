# What a newcomer needs: a Rust toolchain, a C compiler and make. `make help` lists the targets.

CARGO ?= cargo

# The campaign's table is for people: they run what they would deploy.
FAULTS_PROFILE ?= --release

# The bench: `make bench-peers BENCH=quick`, or `BENCH="quick --peers sundown,axum --rounds 5"`.
BENCH ?= full
# Everything that is compared is one static file, as the image has it.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# Where cargo builds, here and in every script: CARGO_TARGET_DIR, or target.
TARGET = $(or $(CARGO_TARGET_DIR),target)
LOAD = $(TARGET)/bench-load/release/load

.DEFAULT_GOAL := help
.PHONY: help run build test test-postgres test-ocpp test-graceful-shutdown test-conformance soak \
	model-wide test-faults test-hostile test-web test-browser test-container fuzz bench bench-peers \
	bench-docs bench-check bench-bless bench-load image promote lint lint-scripts doc deny check-deploy check-proxies \
	check-features check-monitoring ci

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 32

run: ## build quickly, and serve on 127.0.0.1:8000
	$(CARGO) run --profile quick

build: ## build the release binary: target/release/sundown
	$(CARGO) build --release

test: ## run all tests, on real sockets and a Redis of their own
	./scripts/ensure-redis.sh
	@CARGO="$(CARGO)" ./scripts/count-tests.sh ./scripts/test.sh

test-postgres: ## the store of examples/postgres_store, on a Postgres of its own
	./scripts/ensure-postgres.sh
	$(CARGO) test --manifest-path examples/postgres_store/Cargo.toml --target-dir $(TARGET)/postgres

test-ocpp: ## examples/ocpp.rs, with charge points of the Python package ocpp; needs python3
	./scripts/ensure-ocpp.sh $(TARGET)/ocpp
	$(CARGO) build --example ocpp
	$(TARGET)/ocpp/bin/python tests/examples/charge_point.py $(TARGET)/debug/examples/ocpp

test-graceful-shutdown: ## 200 clients, a real SIGTERM, and the timeline as the clients saw it
	$(CARGO) test --test graceful_shutdown -- --nocapture

test-conformance: ## RFC 6455 from raw bytes, and how many cases that is
	$(CARGO) test --test conformance -- --nocapture

soak: ## the simulation with new seeds, for SUNDOWN_SOAK=10m (default 60s)
	SUNDOWN_SOAK=$${SUNDOWN_SOAK:-60s} $(CARGO) test --test simulation seeds -- --exact runs::seeds

model-wide: ## the model with wider bounds, in some minutes
	SUNDOWN_MODEL=wide $(CARGO) test --release --test model every_promise -- --nocapture

test-faults: ## every fault in turn, and what clients lost by it; mounts disks, as root
	./scripts/ensure-redis.sh
	$(CARGO) build $(FAULTS_PROFILE) --example chain
	$(CARGO) test $(FAULTS_PROFILE) --test faults -- --nocapture

test-hostile: ## crowds of hostile peers: what they cost in memory, and a good client in latency
	SUNDOWN_HOSTILE_LATENCY=1 $(CARGO) test --release --test hostile -- --nocapture

test-web: ## the browser's client under Node's own test runner, and against the built binary; needs node
	$(CARGO) build
	$(CARGO) build --example mail
	for speaks in sundown.v1 sundown.v2; do SUBPROTOCOL=$$speaks node --test tests/web/*.test.mjs || exit 1; done

test-browser: ## the page in a real Chromium, through a SIGTERM and a kill -9; pictures in target/browser
	./scripts/ensure-browser.sh
	$(CARGO) build
	node --test tests/browser/*.test.mjs

test-container: ## the image, a stop, deploys and crashes on a real Docker engine (SUNDOWN_SKIP_DOCKER=1: none)
	./scripts/ensure-container-tools.sh
	$(CARGO) test --test container -- --nocapture --test-threads=1; code=$$?; \
		./tests/container/stand-ins.sh --remove; exit $$code

fuzz: ## builds the fuzz targets, and runs each for 15 seconds (SECONDS=600 for longer)
	./scripts/fuzz.sh $(or $(SECONDS),15)

image: ## build the image sundown:latest, from scratch, with one static binary
	./docker/image.sh

promote: ## deploy: start, test and switch to the other colour, stop the old one (COLOUR=blue|green)
	./docker/promote.sh $(COLOUR)

bench: ## the parts by themselves, by criterion
	$(CARGO) bench --manifest-path benches/micro/Cargo.toml --target-dir $(TARGET)/bench-micro

bench-peers: bench-load ## all of docs/benchmarks.md beside other servers; BENCH=quick takes 3 minutes
	./scripts/ensure-redis.sh
	./docker/static.sh $(TARGET)/static
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --release --locked --target $(HOST) \
		--manifest-path benches/peers/Cargo.toml --target-dir $(TARGET)/bench-peers
	$(LOAD) bench $(BENCH) --sundown $(TARGET)/static/sundown \
		--peers-binary $(TARGET)/bench-peers/$(HOST)/release/peers

bench-docs: bench-load ## writes what was measured last into docs/benchmarks.md
	$(LOAD) report

bench-check: bench-load ## instructions for a message: fails past 5 % more; needs valgrind
	$(CARGO) test --release --locked --manifest-path benches/load/Cargo.toml --target-dir $(TARGET)/bench-load
	./docker/static.sh $(TARGET)/static
	$(LOAD) check $(TARGET)/static/sundown

bench-bless: bench-load ## accepts the instructions that a message takes now
	./docker/static.sh $(TARGET)/static
	$(LOAD) bless $(TARGET)/static/sundown

bench-load:
	$(CARGO) build --release --locked --manifest-path benches/load/Cargo.toml --target-dir $(TARGET)/bench-load

lint: ## format and clippy, with warnings as errors
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path benches/load/Cargo.toml
	$(CARGO) fmt --check --manifest-path benches/micro/Cargo.toml
	$(CARGO) fmt --check --manifest-path benches/peers/Cargo.toml
	$(CARGO) fmt --check --manifest-path examples/postgres_store/Cargo.toml
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --test faults --test container --test proxies -- -D warnings
	$(CARGO) clippy --manifest-path benches/load/Cargo.toml --target-dir $(TARGET)/bench-load -- -D warnings
	$(CARGO) clippy --all-targets --manifest-path examples/postgres_store/Cargo.toml \
		--target-dir $(TARGET)/postgres -- -D warnings

lint-scripts: ## shellcheck on every script; needs shellcheck
	shellcheck .ci/run docker/*.sh scripts/*.sh tests/container/*.sh

doc: ## the documentation of the library, with warnings as errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

deny: ## licenses and duplicate crates; needs cargo-deny
	$(CARGO) deny check bans licenses sources

check-deploy: ## the systemd unit and the Kubernetes manifests of docs/deploy, and a backup; needs sqlite3
	./scripts/check-deploy.sh
	$(CARGO) build
	./scripts/check-backup.sh

check-proxies: ## stops, limits and quiet clients behind HAProxy, nginx and Caddy, by docs/deploy/proxies
	./scripts/ensure-proxies.sh
	$(CARGO) test --test proxies -- --test-threads=8

check-features: ## every combination of cargo features that makes sense builds
	./scripts/check-features.sh

check-monitoring: ## alerts, dashboard and the page of metrics, by promtool; needs prometheus
	$(CARGO) build
	./scripts/check-monitoring.sh

CI = lint lint-scripts check-features check-deploy test test-postgres test-ocpp check-proxies \
	check-monitoring test-web test-browser test-graceful-shutdown test-faults test-container fuzz bench-check doc
ci: FAULTS_PROFILE = # the build that all other tests have made
ci: $(CI) ## all that CI runs
