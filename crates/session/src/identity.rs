/// Identity of a client, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate's subject (RFC 5280, section 4.1.2.6), as `CN=client, O=example`.
    pub subject: String,
    /// Its alternative names, each with its kind: `DNS:a.example.com`, `URI:spiffe://…`, `IP:…`,
    /// `email:…`.
    pub alternative_names: Vec<String>,
    /// Whether an authority that the listener trusts has signed it. Where clients get in without a
    /// valid certificate, it may not.
    pub verified: bool,
}
