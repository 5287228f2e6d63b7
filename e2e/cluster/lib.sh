# shellcheck shell=bash disable=SC2034
# Sourced by the scripts here: the cluster's names, places and addresses.

name=${L4WAY_CLUSTER:-l4way}           # of its network namespace and cgroup, so that two can run
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/l4way}/cluster
bin=$cache/bin
images=$cache/images
logs=$cache/logs/$name
audit_log=$logs/audit.log              # of the API server: what l4way's controllers ask, see manifests/audit-policy.yaml
state=/var/lib/$name-cluster           # short: paths of unix sockets have to fit in 108 bytes
pki=$state/pki
export KUBECONFIG=$state/kubeconfig

node_ip=10.88.0.1
pod_range=10.244.0.0/24
service_range=10.96.0.0/16
dns_ip=10.96.0.10
pool_range=10.99.0.0/24                # LoadBalancer addresses, given by MetalLB
api=https://$node_ip:6443
etcd_url=http://127.0.0.1:2379
containerd_socket=$state/containerd.sock
registry=127.0.0.1:5000
policies_health=127.0.0.1:9080

metallb_version=v0.16.1                # as in tools/go.mod
# In the order of starting.
components=(etcd kube-apiserver kube-controller-manager kube-scheduler registry containerd kubelet kube-proxy)

die() {
    echo "$*" >&2
    exit 1
}

# Runs the calling script again inside the cluster's network namespace. Not by `ip netns exec`, which
# mounts /sys anew and so hides the cgroups from kubelet and runc.
enter() {
    [ "$(id -u)" -eq 0 ] || die "the cluster needs root"
    [ -e "/run/netns/$name" ] || die "the cluster isn't up: make cluster"
    [ "$(stat -Lc %i /proc/self/ns/net)" = "$(stat -Lc %i "/run/netns/$name")" ] ||
        exec nsenter --net="/run/netns/$name" -- "$(readlink -f "$0")" "$@"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || die "gave up waiting for $what; logs are in $logs"
        sleep 0.1
    done
}

# The binaries built here come first, except that the machine's kubectl does where it has one.
PATH=$PATH:$bin:/usr/sbin:/sbin
