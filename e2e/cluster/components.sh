# shellcheck shell=bash disable=SC2154,SC2034
# Sourced after lib.sh: how each component is started, known to be ready, and stopped.

# shellcheck disable=SC2054 # commas of the programs' own flags
# Sets `command` to the command line of a component.
command_of() {
    case $1 in
    etcd) command=(
        "$bin/etcd" --name=etcd --data-dir="$state/etcd" --unsafe-no-fsync --log-level=warn
        --listen-client-urls="$etcd_url" --advertise-client-urls="$etcd_url"
        --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380
        --initial-cluster=etcd=http://127.0.0.1:2380
    ) ;;
    kube-apiserver) command=(
        "$bin/kube-apiserver" --etcd-servers="$etcd_url" --allow-privileged
        --bind-address="$node_ip" --advertise-address="$node_ip" --secure-port=6443
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key"
        --client-ca-file="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP
        --kubelet-client-certificate="$pki/apiserver-kubelet.crt"
        --kubelet-client-key="$pki/apiserver-kubelet.key"
        --service-account-issuer=https://kubernetes.default.svc
        --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key"
        --authorization-mode=Node,RBAC --service-cluster-ip-range="$service_range"
        --audit-policy-file="$here/manifests/audit-policy.yaml" --audit-log-path="$audit_log"
    ) ;;
    kube-controller-manager) command=(
        "$bin/kube-controller-manager" --kubeconfig="$state/controller-manager.kubeconfig"
        --leader-elect=false --bind-address=127.0.0.1 --use-service-account-credentials=true
        --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt"
    ) ;;
    kube-scheduler) command=(
        "$bin/kube-scheduler" --kubeconfig="$state/scheduler.kubeconfig"
        --leader-elect=false --bind-address=127.0.0.1
    ) ;;
    registry) command=("$bin/registry" -listen "$registry" -images "$images") ;;
    containerd) command=(containerd --config "$state/containerd.toml") ;;
    kubelet) command=(
        "$bin/kubelet" --config="$state/kubelet.yaml" --kubeconfig="$state/kubelet.kubeconfig"
        --hostname-override=node --node-ip="$node_ip"
        --root-dir="$state/kubelet" --cert-dir="$state/kubelet/pki"
    ) ;;
    kube-proxy) command=(
        "$bin/kube-proxy" --kubeconfig="$state/proxy.kubeconfig" --hostname-override=node
        --proxy-mode=nftables --cluster-cidr="$pod_range" --conntrack-max-per-core=0
        --healthz-bind-address=127.0.0.1:10256 --metrics-bind-address=127.0.0.1:10249
    ) ;;
    network-policies) command=(
        "$bin/network-policies" --kubeconfig="$KUBECONFIG" --node=node --healthz="$policies_health"
    ) ;;
    *) die "no component $1: ${components[*]}" ;;
    esac
}

is_ready() {
    case $1 in
    etcd) curl --fail --silent "$etcd_url/health" ;;
    kube-apiserver) kubectl get --raw /readyz ;;
    kube-controller-manager) curl --fail --silent --insecure https://127.0.0.1:10257/healthz ;;
    kube-scheduler) curl --fail --silent --insecure https://127.0.0.1:10259/readyz ;;
    registry) curl --fail --silent "http://$registry/v2/" ;;
    containerd) ctr --address "$containerd_socket" version ;;
    kubelet) kubectl wait node/node --for=condition=Ready --timeout=1s ;;
    kube-proxy) curl --fail --silent http://127.0.0.1:10256/healthz ;;
    network-policies) curl --fail --silent "http://$policies_health" ;;
    esac
}

# The pid of a component that runs. A pid file may have outlived its process and the pid be another's.
pid_of() {
    local pid command
    pid=$(cat "$state/pids/$1" 2>/dev/null) || return 1
    command_of "$1"
    [ "$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")" = "${command[*]} " ] && echo "$pid"
}

start() {
    local command
    if pid_of "$1" >/dev/null; then return; fi
    command_of "$1"
    setsid "${command[@]}" >>"$logs/$1.log" 2>&1 </dev/null &
    echo $! >"$state/pids/$1"
}

wait_until_ready() {
    wait_for 60 "$1" ready_or_ended "$1"
    pid_of "$1" >/dev/null || { tail -n 5 "$logs/$1.log" >&2; die "$1 has ended"; }
}

ready_or_ended() {
    is_ready "$1" || ended "$1"
}

# stop NAME [SIGNAL]: returns once the process has ended.
stop() {
    local pid
    pid=$(pid_of "$1") || return 0
    kill -s "${2:-TERM}" "$pid"
    wait_for 30 "the end of $1 (pid $pid)" ended "$1"
    rm -f "$state/pids/$1"
}

# A process that has ended but that its parent hasn't waited for has an empty command line.
ended() {
    ! pid_of "$1"
}
