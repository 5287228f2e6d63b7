# shellcheck shell=bash
# Sourced: a Helm 4 as the command `helm`, the machine's own or the one built from its Go module.

if [[ $(helm version --template '{{.Version}}' 2>/dev/null) != v4* ]]; then
    PATH=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/l4way}/cluster/bin:$PATH
    command -v helm >/dev/null || e2e/cluster/build helm
fi
