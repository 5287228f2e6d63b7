# shellcheck shell=bash disable=SC2154
# Sourced after lib.sh: what a new cluster gets by way of its API.

# module_directory MODULE BY: where the Go module cache has a module that the one in the directory BY requires.
module_directory() {
    cd "$2" && "$project/scripts/go" mod download "$1" && "$project/scripts/go" list -m -f '{{.Dir}}' "$1"
}

apply() {
    kubectl apply --server-side --force-conflicts "$@" >>"$logs/install.log" || die "can't install; see $logs/install.log"
}

# The CRDs, and the ValidatingAdmissionPolicy that guards them.
install_gateway_api() {
    local module file files=()
    module=$(module_directory sigs.k8s.io/gateway-api "$project/e2e/conformance/suite")
    for file in "$module/config/crd/$1"/*.yaml; do
        [[ $file = */kustomization.yaml ]] || files+=(--filename "$file")
    done
    apply "${files[@]}"
}

# Upstream's manifest without what announces addresses (the speaker), and without webhooks, which
# would only check the one pool made here.
install_metallb() {
    local module
    module=$(module_directory go.universe.tf/metallb "$here/tools")
    awk -v RS='---\n' -v ORS='---\n' '!/\nkind: (DaemonSet|ValidatingWebhookConfiguration)\n/' \
        "$module/config/manifests/metallb-native.yaml" |
        sed -e 's/^\( *\)- --log-level=info$/&\n\1- --webhook-mode=disabled/' \
            -e 's/initialDelaySeconds: 10/initialDelaySeconds: 1/' |
        apply --filename -
    kubectl wait --for=condition=Established crd/ipaddresspools.metallb.io --timeout=60s >>"$logs/install.log"
    sed "s#POOL_RANGE#$pool_range#" "$here/manifests/metallb-pool.yaml" | apply --filename -
}

install_dns() {
    sed "s#DNS_IP#$dns_ip#" "$here/manifests/coredns.yaml" | apply --filename -
}

install() {
    install_dns
    install_metallb
    install_gateway_api "$1"
    {
        kubectl wait --for=condition=Established crd --all --timeout=60s
        kubectl rollout status --namespace kube-system deployment/coredns --timeout=60s
        kubectl rollout status --namespace metallb-system deployment/controller --timeout=60s
    } >>"$logs/install.log"
    reached "cluster DNS, MetalLB and Gateway API are installed"
}
