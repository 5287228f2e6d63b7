#!/usr/bin/env bash
# Packages the chart, with the CRDs of the Gateway API that the project is tested with:
# chart.sh [DIRECTORY]. Prints where it is.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/helm.sh

destination=$(mkdir -p "${1:-.}" && cd "${1:-.}" && pwd)
module=$(cd e2e/upstream && ../../scripts/go mod download sigs.k8s.io/gateway-api && ../../scripts/go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT

cp -r charts/l4way "$staging"
for channel in standard experimental; do
    crds=$staging/l4way/charts/gateway-api-$channel/crds
    mkdir "$crds"
    cp "$module/config/crd/$channel"/*.yaml "$crds"
    rm -f "$crds/kustomization.yaml"
    chmod u+w "$crds"/*
done
helm package --destination "$destination" "$staging/l4way"
