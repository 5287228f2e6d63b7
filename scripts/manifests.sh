#!/usr/bin/env bash
# Renders deploy/l4way.yaml from the chart: manifests.sh. With --check, says whether it is up to date, and
# whether the chart is well-formed.
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
    # The version is the least that the chart admits: nothing in it depends on more.
    helm template l4way charts/l4way --namespace l4way-system --include-crds --kube-version 1.31.0
}

case ${1:-} in
--check)
    helm lint --strict --quiet charts/l4way
    for crd in charts/l4way/charts/crds/crds/*.yaml; do
        cmp "$crd" "crates/resources/crds/${crd##*/}"
    done
    render | diff -u deploy/l4way.yaml - || { echo "deploy/l4way.yaml isn't what the chart gives: make manifests" >&2; exit 1; }
    ;;
'')
    cp crates/resources/crds/l4way.dev_*.yaml charts/l4way/charts/crds/crds/
    render >deploy/l4way.yaml.new
    mv deploy/l4way.yaml.new deploy/l4way.yaml
    ;;
*)
    echo "usage: manifests.sh [--check]" >&2
    exit 2
    ;;
esac
