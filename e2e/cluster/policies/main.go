// Enforces NetworkPolicies on the node: upstream's kube-network-policies, with a kubeconfig in the place of a
// pod's ServiceAccount. What it is to judge, rules send to NFQUEUE 100 (components.sh).
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"os/signal"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	node := flag.String("node", "", "the name of this node")
	healthz := flag.String("healthz", "127.0.0.1:9080", "where to answer that it runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *kubeconfig, *node, *healthz); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig, node, healthz string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	policies := factory.Networking().V1().NetworkPolicies()
	namespaces := factory.Core().V1().Namespaces()
	pods := factory.Core().V1().Pods()
	settings := networkpolicy.Config{NodeName: node, QueueID: 100}
	controller, err := networkpolicy.NewController(
		client, policies, namespaces, pods, nil, nil, nil, nil, settings)
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	go http.ListenAndServe(healthz, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	return controller.Run(ctx)
}
