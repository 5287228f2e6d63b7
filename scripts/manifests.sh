#!/usr/bin/env bash
# Renders deploy/l4way.yaml from the chart, and what charts/tests expect: manifests.sh. With --check, says whether
# they are up to date, and whether the chart is well-formed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/helm.sh

render() {
    cat <<'END'
# l4way, with the chart's default values. Rendered by `make manifests`; change the chart instead.
apiVersion: v1
kind: Namespace
metadata:
  name: l4way-system
  labels:
    app.kubernetes.io/name: l4way
    pod-security.kubernetes.io/enforce: restricted
END
    template --include-crds
}

# The version is the least that the chart admits: nothing in it depends on more.
template() {
    helm template l4way charts/l4way --namespace l4way-system --kube-version 1.31.0 "$@"
}

# What isn't in deploy/l4way.yaml can be rendered, too, and what would open too much is refused.
check_options() {
    template --set admissionPolicy.enabled=true --set gatewayParameters.image=example.com/l4way:1 \
        --set-json 'networkPolicy={"enabled":true,"metricsFrom":[{"namespaceSelector":{}}]}' >/dev/null
    if template --set networkPolicy.enabled=true >/dev/null 2>&1; then
        echo "the chart makes NetworkPolicies without metricsFrom, so that everybody may read metrics" >&2
        exit 1
    fi
}

# What the chart gives for the values of a test, apart from its CRDs.
render_test() {
    helm template l4way charts/l4way --namespace l4way-system --kube-version 1.31.0 --values "$1/values.yaml"
}

case ${1:-} in
--check)
    helm lint --strict --quiet charts/l4way
    check_options
    for crd in charts/l4way/charts/crds/crds/*.yaml; do
        cmp "$crd" "crates/resources/crds/${crd##*/}"
    done
    for test in charts/tests/*/; do
        render_test "$test" | diff -u "${test}expected.yaml" - ||
            { echo "${test}expected.yaml isn't what the chart gives: make manifests, and read the difference" >&2; exit 1; }
    done
    if helm template l4way charts/l4way --set 'watchNamespaces={team}' --set gatewayParameters.replicas=2 >/dev/null 2>&1; then
        echo "the chart takes GatewayParameters in a namespace that isn't watched" >&2
        exit 1
    fi
    render | diff -u deploy/l4way.yaml - || { echo "deploy/l4way.yaml isn't what the chart gives: make manifests" >&2; exit 1; }
    ;;
'')
    cp crates/resources/crds/l4way.dev_*.yaml charts/l4way/charts/crds/crds/
    render >deploy/l4way.yaml.new
    mv deploy/l4way.yaml.new deploy/l4way.yaml
    for test in charts/tests/*/; do
        render_test "$test" >"${test}expected.yaml.new"
        mv "${test}expected.yaml.new" "${test}expected.yaml"
    done
    ;;
*)
    echo "usage: manifests.sh [--check]" >&2
    exit 2
    ;;
esac
