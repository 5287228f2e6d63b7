// The upstream Gateway API, whose manifests the tests of crates/resources read. Nothing here
// is built: `go mod download sigs.k8s.io/gateway-api sigs.k8s.io/gateway-api/conformance` is all.
module l4way.dev/e2e/upstream

go 1.24

require (
	sigs.k8s.io/gateway-api v1.6.1
	sigs.k8s.io/gateway-api/conformance v1.6.1
)
