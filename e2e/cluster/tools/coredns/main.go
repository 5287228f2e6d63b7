// CoreDNS with the plugins that the cluster's DNS and the conformance suite's need.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/whoami"
)

// In upstream's order, which is that in which they see a query.
func init() {
	dnsserver.Directives = []string{
		"ready", "health", "errors", "log", "cache", "kubernetes", "forward", "whoami",
	}
}

func main() { coremain.Run() }
