// The upstream Gateway API, whose manifests the tests read. Nothing here is built.
module l4way.dev/e2e/upstream

go 1.24

require (
	sigs.k8s.io/gateway-api v1.6.1
	sigs.k8s.io/gateway-api/conformance v1.6.1
)
