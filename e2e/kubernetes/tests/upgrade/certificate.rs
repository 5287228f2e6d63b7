//! The certificate of a TLS listener, which is known by its serial number.

use std::net::SocketAddr;

use crate::support::shell;

/// A Secret with a new certificate of this serial number.
pub(super) fn secret(name: &str, serial: u32) -> String {
    let secret = shell(&format!(
        "d=$(mktemp -d)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -set_serial {serial} \
         -subj /CN=upgrade.example -addext subjectAltName=DNS:upgrade.example \
         -keyout $d/key -out $d/certificate 2>$d/log || cat $d/log >&2
kubectl create secret tls {name} --key $d/key --cert $d/certificate --dry-run=client --output yaml
rm -r $d"
    ));
    assert!(secret.contains("tls.crt"), "no certificate: {secret}");
    secret + "---\n"
}

/// The serial number of the certificate that a listener shows.
///
/// # Errors
/// With what `openssl` says if it shows none.
pub(super) fn serial(of: SocketAddr) -> Result<u32, String> {
    let said = shell(&format!(
        "openssl s_client -connect {of} -servername upgrade.example </dev/null 2>&1 | openssl x509 -noout \
         -serial 2>&1"
    ));
    let serial = said.trim().strip_prefix("serial=");
    serial.and_then(|serial| u32::from_str_radix(serial, 16).ok()).ok_or(said)
}
