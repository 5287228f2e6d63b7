#!/usr/bin/env bash
# Prints what a Terminate listener of l4way negotiates, as a table: it runs the binary that is its
# argument, with an ECDSA and an RSA certificate, and asks it for one version, suite and group after the
# other. OpenSSL asks; a program in Go does for what Debian's OpenSSL doesn't have.
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")/.."

address=127.84.76.83:8443 # of 127.0.0.0/8, all of which is the machine's own
name=tls.example
weak=ALL:COMPLEMENTOFALL:@SECLEVEL=0 # all that OpenSSL has

scripts/setup.sh openssl >&2
command -v go >/dev/null || scripts/setup.sh golang-go >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/go build -o "$work/probe" scripts/tls-table/probe.go

secret() { # secret NAME OPTION...: a Secret with a certificate whose key is made with these options
    openssl req -x509 -nodes -days 2 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
        -keyout "$work/key" -out "$work/certificate" "${@:2}" 2>/dev/null
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s}\ntype: kubernetes.io/tls\ndata:\n' "$1"
    printf '  tls.crt: %s\n  tls.key: %s\n' "$(base64 -w0 "$work/certificate")" "$(base64 -w0 "$work/key")"
}

mkdir "$work/manifests"
{
    secret ecdsa -newkey ec -pkeyopt ec_paramgen_curve:P-256
    secret rsa -newkey rsa:2048
    cat <<MANIFESTS
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tls}
spec:
  gatewayClassName: l4way
  listeners:
  - name: tls
    protocol: TLS
    port: ${address#*:}
    tls:
      mode: Terminate
      certificateRefs: [{name: ecdsa}, {name: rsa}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tls}
spec:
  parentRefs: [{name: tls}]
  rules:
  - backendRefs: [{group: l4way.dev, kind: Backend, name: admin}]
---
apiVersion: l4way.dev/v1alpha1
kind: Backend
metadata: {name: admin}
spec:
  endpoints: [{ip: {address: ${address%:*}, port: 9902}}]
MANIFESTS
} >"$work/manifests/tls.yaml"

"$binary" run -f "$work/manifests" --address "${address%:*}" --admin-address "${address%:*}:9902" \
    >"$work/log" 2>&1 &
l4way=$!
trap 'kill "$l4way"; wait "$l4way" || true; rm -rf "$work"' EXIT
for ((i = 0; ; i++)); do
    "$work/probe" "$address" "$name" default >"$work/default" 2>&1 && break
    if [ "$i" = 100 ] || ! kill -0 "$l4way"; then
        cat "$work/log" "$work/default" >&2
        exit 1
    fi
    sleep 0.1
done

client() { # client OPTION...: what OpenSSL's client says of a session
    timeout 10 openssl s_client -connect "$address" -servername "$name" "$@" </dev/null 2>&1 || true
}

suite() { # suite OPTION...: the suite that a session has; nothing if there is none
    client "$@" | sed -n 's/^New, .*, Cipher is \([A-Z0-9_-]*\)$/\1/p'
}

verdict() { if [ -n "$1" ]; then echo accepted; else echo refused; fi; }

row() { printf '| %s | %s | %s |\n' "$@"; }

version() { openssl version | cut -d' ' -f1,2; }

printf 'Asked by %s and Go %s.\n\n' "$(version)" "$(scripts/go env GOVERSION | sed 's/^go//')"
row version answer 'asked by'
row --- --- ---
row SSLv3 "$(verdict "$("$work/probe" "$address" "$name" ssl3 2>/dev/null || true)")" 'a hello of its own'
for flag in tls1 tls1_1 tls1_2 tls1_3; do
    label=${flag/tls1/TLS 1}
    case $label in *_*) label=${label/_/.} ;; *) label+=.0 ;; esac
    row "$label" "$(verdict "$(suite "-$flag" -cipher "$weak")")" OpenSSL
done

suites() { # suites VERSION FLAG OPTION: probes every suite of a version; OPTION is how one is asked for
    local standard openssl refused=0
    while read -r standard openssl; do
        if [ -n "$(suite "-$2" "$3" "$openssl$4")" ]; then
            row "\`$standard\`" accepted "$1"
        else
            refused=$((refused + 1))
        fi
    done
    row "$refused others of OpenSSL's" refused "$1"
}

named() { # named FLAG: the suites that OpenSSL has for a version: their IANA names and its own
    openssl ciphers -s "-$1" -stdname "$weak" | awk '{ print $1, $3 }'
}

printf '\n'
row 'cipher suite' answer version
row --- --- ---
{
    named tls1_3 | grep '^TLS_[AC]' | grep -v _WITH_
    # Two that OpenSSL has and doesn't offer by itself.
    printf '%s %s\n' TLS_AES_128_CCM_SHA256{,} TLS_AES_128_CCM_8_SHA256{,}
} | suites 'TLS 1.3' tls1_3 -ciphersuites ''
named tls1_2 | grep _WITH_ | suites 'TLS 1.2' tls1_2 -cipher :@SECLEVEL=0

printf '\n'
row group answer 'asked by'
row --- --- ---
for group in X25519 P-256 P-384 P-521 X448 ffdhe2048; do
    row "$group" "$(verdict "$(suite -tls1_3 -groups "$group")")" OpenSSL
done
post_quantum() { # post_quantum NUMBER NAME
    row "$2" "$(verdict "$("$work/probe" "$address" "$name" "$1" 2>/dev/null || true)")" Go
}
post_quantum 4588 X25519MLKEM768
post_quantum 4587 SecP256r1MLKEM768
post_quantum 4589 SecP384r1MLKEM1024

own_choice=$(client | awk -F', ' '
    /^Server Temp Key: / { group = substr($1, 18) }
    /^New, / { sub(/^Cipher is /, "", $3); sub(/^TLSv/, "TLS ", $2); print $2, $3, group }')
printf '\nA client that leaves the choice to l4way: OpenSSL gets `%s`, Go gets `%s`.\n' \
    "$own_choice" "$(cat "$work/default")"
