/// Identity of a client, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate's subject (RFC 5280, section 4.1.2.6), as `CN=client, O=example`.
    pub subject: String,
    /// Its alternative names, each with its kind: `DNS:a.example.com`, `URI:spiffe://…`, `IP:…`,
    /// `email:…`.
    pub alternative_names: Vec<String>,
    /// An authority that the listener trusts has signed it. It need not have where clients get in
    /// without a valid certificate.
    pub verified: bool,
}
