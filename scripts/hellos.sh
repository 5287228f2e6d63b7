#!/usr/bin/env bash
# Runs TLS clients against a socket that only records what they begin with, and writes that to
# crates/proxy-core/tests/hellos, with an index of what each of them was told to send.
set -euo pipefail
cd "$(dirname "$0")/.."

python=/usr/bin/python3 # Debian's, which has venv
psycopg=3.3.9
target=crates/proxy-core/tests/hellos
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
export TMPDIR=$new

scripts/setup.sh ca-certificates chromium curl gnutls-bin krb5-user mosquitto-clients openssl postgresql-client \
    python3-venv redis-tools
command -v go >/dev/null || scripts/setup.sh golang-go
command -v javac >/dev/null || scripts/setup.sh default-jdk-headless
cargo build --quiet --locked -p l4way-http --example hello
scripts/go build -o "$new/go-hello" scripts/hellos/hello.go
javac -d "$new" scripts/hellos/Hello.java
$python -m venv "$new/venv"
"$new/venv/bin/pip" install --quiet "psycopg[binary]==$psycopg"

version() { # version COMMAND...: the first version number that it prints
    "$@" 2>&1 | grep -oE '[0-9]+(\.[0-9]+)+' | sed -n 1p
}

entry() { # entry FILE GREETING NAME PROTOCOLS CLIENT: a line of the index; - is none
    printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$new/index.txt"
}

hello() { # hello FILE NAME PROTOCOLS CLIENT OPTION... COMMAND...: for options and command see record.py
    echo "$1"
    $python scripts/hellos/record.py --file "$new/$1" "${@:5}"
    entry "$1" hello "$2" "$3" "$4"
}

openssl_hello() { # openssl_hello FILE NAME PROTOCOLS FLAG...
    hello "$1" "$2" "$3" "OpenSSL $(version openssl version), s_client ${*:4}" \
        openssl s_client -connect 127.0.0.1:@PORT@ "${@:4}"
}

openssl_hello openssl.bin openssl.example - -servername openssl.example
openssl_hello openssl-alpn.bin openssl.example h2,http/1.1 -servername openssl.example -alpn h2,http/1.1
openssl_hello openssl-tls12.bin openssl.example - -servername openssl.example -tls1_2
openssl_hello openssl-no-name.bin - - -noservername
openssl_hello openssl-no-name-tls12.bin - mqtt -noservername -tls1_2 -alpn mqtt
openssl_hello openssl-address.bin - - -servername 192.0.2.1
openssl_hello openssl-final-dot.bin openssl.example - -servername OpenSSL.Example.

# Early data takes a session with a server that allows it.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=early.example \
    -keyout "$new/key" -out "$new/certificate" 2>/dev/null
coproc server {
    exec openssl s_server -accept 127.0.0.1:0 -naccept 1 -www -max_early_data 16384 \
        -key "$new/key" -cert "$new/certificate" 2>&1
}
server_pid=$server_PID
trap 'kill "$server_pid" 2>/dev/null || true; rm -rf "$new"' EXIT
while read -r word address <&"${server[0]}" && [ "$word" != ACCEPT ]; do :; done
printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -connect "$address" -servername early.example -ign_eof \
    -sess_out "$new/session" >/dev/null 2>&1
wait "$server_pid"
trap 'rm -rf "$new"' EXIT
echo early >"$new/early"
hello openssl-early-data.bin early.example - "OpenSSL $(version openssl version), s_client -early_data" \
    --records 3 openssl s_client -connect 127.0.0.1:@PORT@ -servername early.example \
    -sess_in "$new/session" -early_data "$new/early"

hello gnutls.bin gnutls.example h2,http/1.1 "GnuTLS $(version gnutls-cli --version), gnutls-cli" \
    gnutls-cli --insecure --sni-hostname=gnutls.example --alpn=h2 --alpn=http/1.1 -p @PORT@ 127.0.0.1
hello rustls.bin rustls.example h2,http/1.1 "rustls $(version cargo tree -p l4way-http --depth 1 -i rustls), aws-lc-rs" \
    cargo run --quiet --locked -p l4way-http --example hello -- @PORT@ rustls.example h2 http/1.1
hello go.bin go.example h2,http/1.1 "Go $(version scripts/go version), crypto/tls" \
    "$new/go-hello" @PORT@ go.example h2 http/1.1
hello java.bin java.example h2,http/1.1 "JDK $(version java -version), javax.net.ssl" \
    java -cp "$new" Hello @PORT@ java.example h2 http/1.1
hello chromium.bin chromium.example h2,http/1.1 "Chromium $(version chromium --version)" \
    chromium --headless --no-sandbox --disable-gpu "--user-data-dir=$new/chromium" \
    "--host-resolver-rules=MAP chromium.example 127.0.0.1" https://chromium.example:@PORT@/
hello curl.bin curl.example h2,http/1.1 "curl $(version curl --version), OpenSSL $(version openssl version)" \
    curl --silent --insecure --resolve curl.example:@PORT@:127.0.0.1 https://curl.example:@PORT@/
hello mosquitto.bin localhost mqtt "mosquitto_pub $(version mosquitto_pub --version)" \
    mosquitto_pub -h localhost -p @PORT@ --tls-use-os-certs --tls-alpn mqtt -t topic -m message
hello redis.bin redis.example - "redis-cli $(version redis-cli --version)" \
    redis-cli --tls --insecure --sni redis.example -h 127.0.0.1 -p @PORT@ PING

# Who has a key for Kerberos, of whatever server, is a client that asks for GSSAPI's encryption first.
printf '[libdefaults]\ndefault_realm = L4WAY.EXAMPLE\n' >"$new/krb5.conf"
printf '%s\n' 'addent -password -p client@L4WAY.EXAMPLE -k 1 -e aes256-cts' password "wkt $new/keytab" |
    KRB5_CONFIG=$new/krb5.conf ktutil >/dev/null
psql="psql $(version psql --version)"
hello psql.bin psql.example - "$psql, after the requests" \
    --request "$new/psql-gss-request.bin=N" --request "$new/psql-ssl-request.bin=S" \
    env "KRB5_CONFIG=$new/krb5.conf" "KRB5_CLIENT_KTNAME=$new/keytab" "KRB5CCNAME=$new/tickets" \
    psql "host=psql.example hostaddr=127.0.0.1 port=@PORT@ user=user dbname=db sslmode=require" -c 'SELECT 1'
entry psql-gss-request.bin gss-enc-request - - "$psql"
entry psql-ssl-request.bin ssl-request - - "$psql"
libpq=$("$new/venv/bin/python" -c 'import psycopg; print("{}.{}".format(*divmod(psycopg.pq.version(), 10000)))')
hello libpq-direct.bin libpq.example postgresql "libpq $libpq, sslnegotiation=direct" \
    "$new/venv/bin/python" -c 'import psycopg, sys; psycopg.connect(sys.argv[1])' \
    "host=libpq.example hostaddr=127.0.0.1 port=@PORT@ user=user dbname=db sslmode=require sslnegotiation=direct"

mkdir -p "$target"
rm -f "$target"/*
mv "$new"/*.bin "$new/index.txt" "$target"
echo "$(wc -l <"$target/index.txt") greetings are in $target"
