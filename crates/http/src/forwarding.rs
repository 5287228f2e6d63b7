//! Headers that say for whom a request is forwarded, and how it came: `X-Forwarded-*`, `Forwarded` (RFC 7239)
//! and `X-Real-IP`. Whoever isn't a trusted proxy could say anything there, and an endpoint would take it for
//! l4way's word.

use std::{fmt::Write as _, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{Entry, FORWARDED},
};

use crate::headers::tokens;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How a request came.
#[derive(Debug)]
pub(crate) struct Came<'a> {
    /// The peer, as endpoints are told.
    pub(crate) peer: &'a Peer,
    pub(crate) tls: bool,
    /// The host as the client named it, if it did.
    pub(crate) host: Option<HeaderValue>,
    /// The peer is believed what it says of others.
    pub(crate) trusted: bool,
}

/// A client's address, written once for all requests of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    written: HeaderValue,
}

impl Peer {
    pub(crate) fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let written = HeaderValue::try_from(address.to_string());
        Self { address, written: written.expect("an address is a header's value") }
    }

    /// The address as a node of `Forwarded` (RFC 7239, section 6).
    fn node(&self) -> String {
        match self.address {
            IpAddr::V4(address) => format!("for={address}"),
            IpAddr::V6(address) => format!("for=\"[{address}]\""),
        }
    }
}

/// Tells how the request came. What is there already stays only if it is a trusted proxy's.
pub(crate) fn tell(headers: &mut HeaderMap, came: Came<'_>) {
    if !came.trusted {
        forget(headers);
    }
    match headers.entry(FORWARDED_FOR) {
        Entry::Vacant(entry) => {
            entry.insert(came.peer.written.clone());
        }
        Entry::Occupied(mut entry) => {
            let mut list = String::new();
            entry.iter().flat_map(tokens).for_each(|node| list.extend([node, ", "]));
            let _ = write!(list, "{}", came.peer.address);
            if let Ok(list) = HeaderValue::try_from(list) {
                entry.insert(list);
            }
        }
    }
    let scheme = HeaderValue::from_static(if came.tls { "https" } else { "http" });
    headers.entry(FORWARDED_PROTO).or_insert(scheme);
    if let Some(host) = came.host {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    // Nobody needs it who has the others, but who reads it reads its last element.
    if headers.contains_key(FORWARDED)
        && let Ok(node) = HeaderValue::try_from(came.peer.node())
    {
        headers.append(FORWARDED, node);
    }
}

/// Takes away what says how a request came.
pub(crate) fn forget(headers: &mut HeaderMap) {
    let said: Vec<_> = headers.keys().filter(|name| says_how(name)).cloned().collect();
    for name in said {
        headers.remove(name);
    }
}

/// Whether a header says how a request came: also one that is spelled with `_`, which is the same name to
/// whoever has the headers from CGI's variables (RFC 3875, section 4.1.18).
pub(crate) fn says_how(name: &HeaderName) -> bool {
    /// The other ones have names of their own, such as `-Port`, `-Prefix` and `-Ssl`.
    const FAMILY: &[u8] = b"x-forwarded";
    let name = name.as_str().as_bytes();
    let is = |name: &[u8], other: &[u8]| {
        let same = |(byte, other): (&u8, &u8)| byte == other || (*byte, *other) == (b'_', b'-');
        name.len() == other.len() && name.iter().zip(other).all(same)
    };
    name.get(..FAMILY.len()).is_some_and(|start| is(start, FAMILY))
        || is(name, b"forwarded")
        || is(name, b"x-real-ip")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::headers;

    fn told(
        came: &[(&'static str, &'static str)],
        address: &str,
        tls: bool,
        trusted: bool,
    ) -> HeaderMap {
        let mut map = headers(came);
        let peer = Peer::new(address.parse().unwrap());
        let host = Some(HeaderValue::from_static("a.example:8443"));
        tell(&mut map, Came { peer: &peer, tls, host, trusted });
        map
    }

    const SAID: [(&str, &str); 4] = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "b.example"),
        ("forwarded", "for=192.0.2.1;proto=gopher"),
    ];

    #[test]
    fn nobody_may_speak_for_others() {
        let mut said = SAID.to_vec();
        said.extend([
            ("x-forwarded-for", "192.0.2.2"),
            ("x-real-ip", "192.0.2.1"),
            ("x_forwarded_for", "192.0.2.1"),
            ("x-forwarded_proto", "https"),
            ("x_real_ip", "192.0.2.1"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-prefix", "/admin"),
            ("x-forwarded", "for=192.0.2.1"),
            ("x-forward", "1"),
            ("x-real-ipsum", "1"),
            ("forwarded-not", "1"),
        ]);
        let expected = [
            ("x-forward", "1"),
            ("x-real-ipsum", "1"),
            ("forwarded-not", "1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example:8443"),
        ];
        assert_eq!(told(&said, "::ffff:10.0.0.2", true, false), headers(&expected));
        assert_eq!(told(&[], "10.0.0.2", true, false), headers(&expected[3..]));
    }

    #[test]
    fn what_a_trusted_proxy_says_stays_and_is_added_to() {
        let mut said = SAID.to_vec();
        said.extend([("x-forwarded-for", "192.0.2.2,, 192.0.2.3"), ("x-real-ip", "192.0.2.1")]);
        let expected = [
            ("x-forwarded-for", "192.0.2.1, 192.0.2.2, 192.0.2.3, 2001:db8::1"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "b.example"),
            ("x-real-ip", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1;proto=gopher"),
            ("forwarded", "for=\"[2001:db8::1]\""),
        ];
        assert_eq!(told(&said, "2001:db8::1", false, true), headers(&expected));
        let ours = [
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a.example:8443"),
        ];
        assert_eq!(told(&[], "10.0.0.2", false, true), headers(&ours), "where it says nothing");
    }
}
