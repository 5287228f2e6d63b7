# The project's jobs. Each does its own set-up; caches live outside the checkout, so that a fresh
# clone builds quickly the second time.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/l4way
export CARGO_TARGET_DIR ?= $(CACHE)/target

CARGO_DENY_VERSION := 0.20.2
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 1800

export CACHE
CHANNEL ?= standard
IMAGE ?= docker.io/l4way/l4way:dev
IMAGE_TAR := $(CACHE)/image/l4way.tar
# A binary that needs nothing of the machine, and so can be an image's only file.
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
BINARY := $(CARGO_TARGET_DIR)/$(TRIPLE)/release/l4way

.PHONY: help build demo test lint deny unit soak setup setup-cluster image cluster cluster-down e2e upgrade bench bench-cluster bench-scale instructions conformance chart manifests hellos tls-table fuzz nightly clean

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## Build the release binary, linked statically
	RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" \
		cargo build --release --locked --target $(TRIPLE) -p l4way

demo: build ## Build, and run the tutorial: TCP on 127.0.0.1:9000, UDP on 127.0.0.1:9001
	@command -v nc >/dev/null || scripts/setup.sh netcat-openbsd
	exec $(BINARY) run -f examples/tutorial --demo-backends

test: ## Everything that tests the project
	scripts/stage lint $(MAKE) --no-print-directory lint
	scripts/stage deny $(MAKE) --no-print-directory deny
	scripts/stage unit $(MAKE) --no-print-directory unit
	scripts/stage instructions $(MAKE) --no-print-directory instructions

lint: ## Format, lints and documentation, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

deny: ## Licences, sources and banned crates
	@command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny@$(CARGO_DENY_VERSION)
	cargo deny --all-features check --hide-inclusion-graph bans licenses sources

unit: setup ## Unit, property, golden and end-to-end tests
	scripts/test.sh

soak: ## Wear l4way down for half an hour, by all that can be at once (SOAK_SECONDS=60 for less)
	SOAK_SECONDS=$(SOAK_SECONDS) cargo test -p l4way --locked --test e2e soak -- --nocapture

image: build ## Write the container image $(IMAGE) as an OCI archive
	scripts/setup.sh python3 ca-certificates
	@mkdir -p $(dir $(IMAGE_TAR))
	scripts/mkimage.py $(IMAGE_TAR) $(BINARY) $(IMAGE) --entrypoint /l4way \
		--file /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
	@echo "$(IMAGE) is in $(IMAGE_TAR): load it with docker load, podman load or ctr images import"

cluster: setup-cluster ## Bring up a Kubernetes cluster (CHANNEL=standard or experimental)
	e2e/cluster/up $(CHANNEL)

cluster-down: ## Stop the cluster, and remove all of it but its cache
	e2e/cluster/down

e2e: setup-cluster image ## Run the tutorial, and what else is tested in a cluster (TESTS=NAME for some)
	scripts/setup.sh netcat-openbsd
	scripts/manifests.sh --check
	CHANNEL=$(CHANNEL) e2e/kubernetes/run $(IMAGE_TAR) $(IMAGE) $(BINARY) $(TESTS)

upgrade: setup-cluster image ## Upgrade from the last release (e2e/upgrade/RELEASE) and back in that cluster, under traffic
	CHANNEL=$(CHANNEL) e2e/upgrade/run $(IMAGE_TAR) $(IMAGE) $(BINARY) $(TESTS)

bench: build ## Measure l4way beside its peers and the kernel, the machine being idle (BENCH="--quick" for less, "--help" for more)
	RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" \
		cargo build --release --locked --target $(TRIPLE) -p l4way-bench
	bench/run $(BINARY)-bench --l4way $(BINARY) $(BENCH)

bench-scale: build ## Measure l4way with many Gateways, routes and endpoints, the machine being idle
	RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" \
		cargo build --release --locked --target $(TRIPLE) -p l4way-scale-bench --bin l4way-scale-bench
	scripts/setup.sh iproute2
	$(BINARY)-scale-bench --l4way $(BINARY)

instructions: setup ## Count the instructions of the hot paths, against their budgets
	RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" \
		cargo build --release --locked --target $(TRIPLE) -p l4way-scale-bench --bin l4way-instructions
	$(dir $(BINARY))l4way-instructions

bench-cluster: setup-cluster image ## Measure l4way in a cluster, the machine being idle (BENCH="-o json" for JSON)
	RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" \
		cargo build --release --locked --target $(TRIPLE) -p l4way-cluster-bench
	CHANNEL=$(CHANNEL) e2e/bench/run $(IMAGE_TAR) $(IMAGE) $(BINARY)-cluster-bench $(BENCH)

conformance: setup-cluster image ## Run Gateway API's conformance suite in a cluster (REPORT=1 keeps the report)
	CHANNEL=$(CHANNEL) REPORT=$(REPORT) e2e/conformance/run $(IMAGE_TAR) $(IMAGE)

setup: ## Install what the tests need
	scripts/setup.sh netcat-openbsd iproute2 nftables util-linux openssl gnutls-bin postgresql postgresql-client mosquitto \
		mosquitto-clients redis-server redis-tools mariadb-server mariadb-client curl python3-venv valgrind
	@command -v go >/dev/null || scripts/setup.sh golang-go
	cd e2e/upstream && go mod download sigs.k8s.io/gateway-api sigs.k8s.io/gateway-api/conformance
	scripts/go -C e2e/h2spec tool h2spec --version

setup-cluster:
	scripts/setup.sh ca-certificates containerd containernetworking-plugins curl iproute2 iptables nftables openssl \
		procps python3 runc util-linux
	@command -v go >/dev/null || scripts/setup.sh golang-go

chart: ## Package the Helm chart, with the CRDs of the Gateway API, as l4way-VERSION.tgz
	scripts/chart.sh

manifests: ## Render deploy/l4way.yaml from the chart, and what charts/tests expect
	scripts/manifests.sh

hellos: ## Record anew what TLS clients begin with, for the tests of crates/proxy-core
	scripts/hellos.sh

tls-table: build ## Ask a Terminate listener for every version, cipher suite and group, and print what it accepts
	scripts/tls-table.sh $(BINARY)

fuzz: ## Have libFuzzer look for inputs for FUZZ_SECONDS a target (TARGETS=NAME for some, L4WAY_FUZZ_KEEP=1 keeps what it finds)
	scripts/fuzz.sh $(FUZZ_SECONDS) $(TARGETS)

nightly: setup ## What is too long for .ci/run, about two hours (NIGHTLY=smoke for a little of each)
	.ci/nightly $(NIGHTLY)

clean: ## Remove the build cache
	rm -rf $(CACHE)
