# The project's jobs. Each does its own set-up; caches live outside the checkout, so that a fresh
# clone builds quickly the second time.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/l4way
export CARGO_TARGET_DIR ?= $(CACHE)/target

CARGO_DENY_VERSION := 0.20.2
FUZZ_SECONDS ?= 60

.PHONY: help build demo test lint deny unit setup chart manifests fuzz clean

help: ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

build: ## Build the release binary
	cargo build --release --locked -p l4way

demo: ## Build, and run the tutorial: TCP on 127.0.0.1:9000, UDP on 127.0.0.1:9001
	@command -v nc >/dev/null || scripts/setup.sh netcat-openbsd
	@cargo build --release --locked -p l4way
	exec $(CARGO_TARGET_DIR)/release/l4way run -f examples/tutorial --demo-backends

test: lint deny unit ## Everything that tests the project

lint: ## Format, lints and documentation, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

deny: ## Licences, sources and banned crates
	@command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny@$(CARGO_DENY_VERSION)
	cargo deny --all-features check --hide-inclusion-graph bans licenses sources

unit: setup ## Unit, property, golden and end-to-end tests
	scripts/test.sh

setup: ## Install what the tests need
	scripts/setup.sh netcat-openbsd iproute2
	@command -v go >/dev/null || scripts/setup.sh golang-go
	cd e2e/upstream && go mod download sigs.k8s.io/gateway-api sigs.k8s.io/gateway-api/conformance

chart: ## Package the Helm chart, with the CRDs of the Gateway API, as l4way-VERSION.tgz
	scripts/chart.sh

manifests: ## Render deploy/l4way.yaml from the chart
	scripts/manifests.sh

fuzz: ## Run each fuzz target for FUZZ_SECONDS (nightly features on the stable compiler)
	scripts/fuzz.sh $(FUZZ_SECONDS)

clean: ## Remove the build cache
	rm -rf $(CACHE)
