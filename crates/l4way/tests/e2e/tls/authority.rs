//! Authorities, and the certificates that they sign.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use tempfile::TempDir;

/// Somebody who signs certificates, with a folder for the files that programs read.
pub(crate) struct Authority {
    /// Its certificate in PEM.
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// An authority of this name.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("ca.crt"), &pem).expect("a file written");
        Self { pem, issuer: Issuer::new(params, key), folder }
    }

    /// A certificate for a name, or an address.
    pub(crate) fn sign(&self, name: &str) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![match name.parse::<Ipv4Addr>() {
            Ok(address) => SanType::IpAddress(address.into()),
            Err(_) => SanType::DnsName(name.try_into().expect("a name")),
        }];
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// The file of its certificate.
    pub(crate) fn file(&self) -> String {
        shown(self.folder.path().join("ca.crt"))
    }

    /// Signs a certificate for a name, and writes it: the files of certificate and key.
    pub(crate) fn files(&self, name: &str) -> (String, String) {
        self.sign(name).write(self.folder.path(), name)
    }
}

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// Writes it as `name.crt` and `name.key`, and returns these files.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (String, String) {
        let write = |suffix: &str, text: &str| {
            let path = folder.join(format!("{name}.{suffix}"));
            fs::write(&path, text).expect("a file written");
            shown(path)
        };
        (write("crt", &self.certificate), write("key", &self.key))
    }
}

fn shown(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("UTF-8")
}
