//! Which host a request is for.

use http::{HeaderMap, Version, header::HOST, request::Parts, uri::Authority};

/// The host that a request names, as the client wrote it, with its port.
///
/// # Errors
/// [`BadHost`] if it names none, several, or something that is no host.
pub(crate) fn authority(request: &Parts) -> Result<Option<Authority>, BadHost> {
    let header = host_header(&request.headers)?;
    let target = request.uri.authority().cloned();
    match (target, header) {
        // HTTP/2 has the authority in a pseudo-header, and a Host header may only say the same
        // (RFC 9113, section 8.3.1).
        (Some(target), Some(header))
            if request.version >= Version::HTTP_2 && target.as_str() != header.as_str() =>
        {
            Err(BadHost)
        }
        // Only HTTP/1.1 has to have both.
        (Some(_), None) if request.version == Version::HTTP_11 => Err(BadHost),
        // The target of HTTP/1.1's absolute form goes before the Host header (RFC 9112, section
        // 3.2.2).
        (Some(target), _) => valid(target).map(Some),
        (None, Some(header)) => valid(header).map(Some),
        (None, None) if request.version <= Version::HTTP_10 => Ok(None),
        (None, None) => Err(BadHost),
    }
}

/// The request can't be attributed to a host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadHost;

fn host_header(headers: &HeaderMap) -> Result<Option<Authority>, BadHost> {
    let mut values = headers.get_all(HOST).iter();
    let (first, second) = (values.next(), values.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(value), None) => Authority::try_from(value.as_bytes()).map(Some).map_err(|_| BadHost),
        (Some(_), Some(_)) => Err(BadHost),
    }
}

/// An authority of HTTP has a host, and nobody's name or password. Its port, if it has one, is one of TCP, or
/// the scheme's if it is empty (RFC 3986, section 3.2.3).
fn valid(authority: Authority) -> Result<Authority, BadHost> {
    let text = authority.as_str();
    let host = authority.host();
    let port = text.strip_prefix(host).ok_or(BadHost)?;
    let is_port = match port.strip_prefix(':') {
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    let is_valid = is_port && (port.len() <= 1 || authority.port_u16().is_some());
    if is_valid && !host.is_empty() { Ok(authority) } else { Err(BadHost) }
}

/// A host as listeners and routes are looked up by: lower case, without port and final dot.
pub(crate) fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn host_of(version: Version, uri: &str, hosts: &[&str]) -> Result<Option<String>, BadHost> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Ok(authority(&parts)?.map(|authority| normal(authority.host())))
    }

    #[test]
    fn http_1_has_it_in_the_host_header_or_the_target() {
        let host = |uri, hosts: &[&str]| host_of(Version::HTTP_11, uri, hosts);
        assert_eq!(host("/", &["A.example.com:8080"]), Ok(Some("a.example.com".into())));
        assert_eq!(host("/", &["a.example.com."]), Ok(Some("a.example.com".into())));
        assert_eq!(host("/", &["[::1]:80"]), Ok(Some("[::1]".into())));
        assert_eq!(host("http://b/", &["a"]), Ok(Some("b".into())));
        assert_eq!(host("http://b/", &[]), Err(BadHost));
        assert_eq!(host("http://b:x/", &["a"]), Err(BadHost));
        for bad in [&[][..], &["a", "a"], &["a", "b"], &["u@a"], &["a/b"], &[""], &["a b"]] {
            assert_eq!(host("/", bad), Err(BadHost), "{bad:?}");
        }
        assert_eq!(host_of(Version::HTTP_10, "/", &[]), Ok(None));
    }

    #[test]
    fn http_2_has_it_in_the_authority() {
        let host = |uri, hosts: &[&str]| host_of(Version::HTTP_2, uri, hosts);
        assert_eq!(host("http://a:80/", &[]), Ok(Some("a".into())));
        assert_eq!(host("http://a:80/", &["a:80"]), Ok(Some("a".into())));
        assert_eq!(host("http://a:80/", &["b"]), Err(BadHost));
        assert_eq!(host("/", &["a"]), Ok(Some("a".into())));
        assert_eq!(host("/", &[]), Err(BadHost));
    }

    #[test]
    fn a_port_is_a_number_of_16_bits() {
        let host = |header: &str| host_of(Version::HTTP_11, "/", &[header]);
        for good in ["a:1", "a:65535", "a:080", "a:", "[::1]:80", "[::1]"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in
            ["a:65536", "a:-1", "a:+80", "a:b", "a:8b", "a:80:80", ":80", "[::1]:b", "[::1]a"]
        {
            assert_eq!(host(bad), Err(BadHost), "{bad}");
        }
    }
}
