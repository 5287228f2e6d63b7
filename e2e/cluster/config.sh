# shellcheck shell=bash disable=SC2154
# Sourced after lib.sh: writes certificates and configuration files of a new cluster.

key() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
}

# certificate NAME SUBJECT EXTENSIONS: signed by the cluster's CA.
certificate() {
    key "$1"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 \
        -out "$1.crt" -extfile <(echo -e "$3") 2>/dev/null
}

make_certificates() {
    local client=extendedKeyUsage=clientAuth
    key ca
    openssl req -x509 -new -key ca.key -subj "/CN=$name-ca" -days 365 -out ca.crt
    certificate apiserver /CN=kube-apiserver "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,\
DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$node_ip,IP:10.96.0.1"
    certificate admin /O=system:masters/CN=admin $client
    certificate apiserver-kubelet /O=system:masters/CN=apiserver-kubelet $client
    certificate controller-manager /CN=system:kube-controller-manager $client
    certificate scheduler /CN=system:kube-scheduler $client
    certificate proxy /CN=system:kube-proxy $client
    certificate kubelet /O=system:nodes/CN=system:node:node $client
    openssl genrsa -out sa.key 2048 2>/dev/null
    openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
}

# kubeconfig USER: everything in one file, so that it can be copied elsewhere.
kubeconfig() {
    cat <<END
apiVersion: v1
kind: Config
clusters:
- name: $name
  cluster: {server: "$api", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$pki/$1.crt"), client-key-data: $(base64 -w0 "$pki/$1.key")}
contexts:
- name: $name
  context: {cluster: $name, user: $1}
current-context: $name
END
}

# restrict_oom_score_adj: containers may not have CAP_SYS_RESOURCE. SystemdCgroup: there may be no systemd.
# config_path: every registry is the cluster's own.
containerd_config() {
    cat <<END
version = 2
root = "$state/containerd"
state = "$state/run"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "$state/runc"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$state/registries"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
END
}

registry_config() {
    cat <<END
server = "http://$registry"
[host."http://$registry"]
  capabilities = ["pull", "resolve"]
END
}

# Each pod has a link of its own to the node, which routes: between pods of one bridge, answers by way
# of a Service would go past the node and its connection tracking.
cni_config() {
    cat <<END
{"cniVersion": "0.4.0", "name": "$name", "plugins": [{"type": "ptp", "ipam": {
  "type": "host-local", "dataDir": "$state/addresses",
  "ranges": [[{"subnet": "$pod_range"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
}

# allowedUnsafeSysctls: what GatewayParameters with dataPath Kernel ask for (docs/kernel-path.md).
# failCgroupV1 and cgroupDriver: for machines with cgroup v1 or without systemd.
# localStorageCapacityIsolation: keeps the node Ready where the size of the disk can't be told.
kubelet_config() {
    cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_ip
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: AlwaysAllow}
podLogsDir: $state/pod-logs
volumePluginDir: $state/volume-plugins
containerRuntimeEndpoint: unix://$containerd_socket
cgroupRoot: /$name
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
allowedUnsafeSysctls: [net.ipv4.ip_forward, net.netfilter.nf_conntrack_acct]
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
evictionHard: {imagefs.available: "0%", nodefs.available: "0%", memory.available: "50Mi"}
imageGCHighThresholdPercent: 100
maxPods: 240
resolvConf: ""
clusterDomain: cluster.local
clusterDNS: ["$dns_ip"]
serializeImagePulls: false
syncFrequency: 10s
END
}

configure() {
    local user
    umask 077
    mkdir -p "$pki" "$state/cni" "$state/registries/_default"
    (cd "$pki" && make_certificates)
    for user in controller-manager scheduler proxy kubelet; do kubeconfig $user >"$state/$user.kubeconfig"; done
    kubeconfig admin >"$KUBECONFIG"
    containerd_config >"$state/containerd.toml"
    registry_config >"$state/registries/_default/hosts.toml"
    cni_config >"$state/cni/10-ptp.conflist"
    umask 022
    kubelet_config >"$state/kubelet.yaml" # the last: up takes it as the sign that all was written
}
