//! What is negotiated.

use std::sync::{Arc, OnceLock};

use l4way_model::{CipherSuite, TlsOptions, TlsVersion};
use rustls::{
    SignatureAlgorithm, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};

/// The cryptography of every TLS session.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

/// The cryptography of sessions that have these options.
pub(crate) fn provider_for(options: &TlsOptions) -> Arc<CryptoProvider> {
    let all = provider();
    if options.cipher_suites.is_empty() {
        return all;
    }
    let named = |wanted: &CipherSuite| all.cipher_suites.iter().find(|suite| is(suite, *wanted));
    let cipher_suites = options.cipher_suites.iter().filter_map(named).copied().collect();
    Arc::new(CryptoProvider { cipher_suites, ..(*all).clone() })
}

fn is(suite: &SupportedCipherSuite, wanted: CipherSuite) -> bool {
    suite_name(*suite) == wanted.as_str()
}

/// The IANA name of a cipher suite: rustls spells those of TLS 1.3 in its own way.
pub(crate) fn suite_name(suite: SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

/// The versions that the options let through.
pub(crate) fn versions(options: &TlsOptions) -> Vec<&'static SupportedProtocolVersion> {
    let versions = [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)];
    let wanted = |(version, _): &(TlsVersion, _)| {
        (options.min_version..=options.max_version).contains(version)
    };
    versions.into_iter().filter(wanted).map(|(_, version)| version).collect()
}

/// Whether sessions can have these options at all.
///
/// # Errors
/// A sentence that says what can't be.
pub fn check_options(options: &TlsOptions) -> Result<(), String> {
    let TlsOptions { min_version, max_version, cipher_suites, alpn, .. } = options;
    if min_version > max_version {
        return Err(format!(
            "the minimum version {min_version} is newer than the maximum version {max_version}"
        ));
    }
    let versions = *min_version..=*max_version;
    if !cipher_suites.is_empty()
        && !cipher_suites.iter().any(|suite| versions.contains(&suite.version()))
    {
        return Err(format!("none of the cipher suites is of TLS {min_version} to {max_version}"));
    }
    match alpn.iter().find(|protocol| protocol.is_empty() || protocol.len() > 255) {
        Some(protocol) => {
            Err(format!("application protocol {protocol:?} is not 1 to 255 bytes long"))
        }
        None => Ok(()),
    }
}

/// Whether sessions with these options can be authenticated by a key of this kind: the suites of TLS
/// 1.2 name it.
pub fn has_for(options: &TlsOptions, key: SignatureAlgorithm) -> bool {
    use TlsVersion::{Tls12, Tls13};
    let versions = options.min_version..=options.max_version;
    let authentication = if key == SignatureAlgorithm::RSA { "_RSA_" } else { "_ECDSA_" };
    let fits = |suite: &CipherSuite| match suite.version() {
        version @ Tls13 => versions.contains(&version),
        version @ Tls12 => versions.contains(&version) && suite.as_str().contains(authentication),
    };
    options.cipher_suites.is_empty() || options.cipher_suites.iter().any(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_suite_is_there() {
        for &suite in CipherSuite::ALL {
            assert!(provider().cipher_suites.iter().any(|known| is(known, suite)), "{suite}");
        }
    }

    #[test]
    fn options_that_contradict_each_other_are_told() {
        let options = |min, max, suites: &[CipherSuite]| TlsOptions {
            min_version: min,
            max_version: max,
            cipher_suites: suites.to_vec(),
            ..TlsOptions::default()
        };
        use TlsVersion::{Tls12, Tls13};
        assert_eq!(check_options(&TlsOptions::default()), Ok(()));
        assert!(check_options(&options(Tls13, Tls12, &[])).is_err());
        let of_13 = CipherSuite::Aes128GcmSha256;
        assert!(check_options(&options(Tls12, Tls12, &[of_13])).is_err());
        assert_eq!(check_options(&options(Tls12, Tls13, &[of_13])), Ok(()));
        let rsa = options(Tls12, Tls12, &[CipherSuite::EcdheRsaAes128GcmSha256]);
        assert!(has_for(&rsa, SignatureAlgorithm::RSA));
        assert!(!has_for(&rsa, SignatureAlgorithm::ECDSA));
    }
}
