#!/bin/sh
# Makes the certificates of the scenarios, valid for a hundred years, each with its key. The keys are
# for nothing else.
set -eu
cd "$(dirname "$0")"
make() {
    name=$1
    shift
    openssl req -x509 -newkey ed25519 -nodes -subj /CN=example -days 36500 \
        -keyout "$name.key" -out "$name.crt" "$@" 2>/dev/null
}
make any
make wildcard -addext "subjectAltName=DNS:*.example.com"
make foo -addext "subjectAltName=DNS:foo.example.com,DNS:foo.example.org"
make bar -addext "subjectAltName=DNS:bar.example.org"
