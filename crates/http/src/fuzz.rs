//! Any bytes at all as the head of a request: host, path and headers.

use std::net::{IpAddr, Ipv4Addr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{CONNECTION, COOKIE, HOST, UPGRADE},
    request::Parts,
};
use l4way_fuzz::Target;
use l4way_model::PathMatch;

use crate::{
    forwarding::{Came, Peer, tell},
    headers::{is_grpc, join_cookies, strip_hop_by_hop, upgrade},
    host::{authority, normal},
    path::comparable,
    target::resource,
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The target, then header lines.
#[test]
fn http_head() {
    let target = Target::new("http_head");
    target.run(|bytes| {
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            let Some(head) = head(bytes, version) else { return };
            check_host(&head);
            check_path(&head);
            check_headers(head);
        }
    });
}

fn head(bytes: &[u8], version: Version) -> Option<Parts> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = Uri::try_from(lines.next()?).ok()?;
    let mut request = Request::builder().version(version).uri(target);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        request =
            request.header(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// A request has one host, which is a host and is the same when it is read again; or it is refused.
fn check_host(head: &Parts) {
    let hosts = head.headers.get_all(HOST).iter().count();
    match authority(head) {
        Err(_) => {}
        Ok(None) => assert!(head.version == Version::HTTP_10 && hosts == 0, "{head:?}"),
        Ok(Some(authority)) => {
            assert!(hosts <= 1, "{head:?}");
            assert!(!authority.host().is_empty() && !authority.as_str().contains('@'));
            let name = normal(authority.host());
            assert!(
                !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_whitespace())
            );
            assert!(!name.contains(['/', '?', '#', '@']), "{name}");
            let again = Request::builder().uri("/").header(HOST, authority.as_str());
            let again = again.body(()).expect("an authority is a header's value").into_parts().0;
            assert_eq!(super::host::authority(&again), Ok(Some(authority)));
        }
    }
}

/// The target that endpoints get is a path, and the same when it is made again; prefixes mean whole elements.
fn check_path(head: &Parts) {
    let Ok(target) = resource(head) else { return };
    let mut again = head.clone();
    again.uri = Uri::from(target.clone());
    assert_eq!(resource(&again), Ok(target.clone()));
    let path = comparable(target.path());
    assert_eq!(comparable(&path), path);
    let path = &*path;
    let elements: Vec<_> = path.split('/').collect();
    assert!(PathMatch::Exact(path.into()).matches(path));
    for prefix in ["/a", "/a/", "/a/b", "/.well-known"] {
        let wanted: Vec<_> = prefix.trim_end_matches('/').split('/').collect();
        let matches = PathMatch::Prefix(prefix.into()).matches(path);
        assert_eq!(matches, elements.starts_with(&wanted), "{prefix} and {path}");
    }
}

/// What is about the connection of the client stays there, nothing is invented, and an endpoint hears from
/// nobody else who the client is.
fn check_headers(head: Parts) {
    let came = head.headers.clone();
    let host = authority(&head).ok().flatten();
    let mut headers = head.headers;
    let upgrade = upgrade(&headers);
    let _ = is_grpc(&headers);
    strip_hop_by_hop(&mut headers);
    assert!(!headers.contains_key(CONNECTION) && !headers.contains_key("transfer-encoding"));
    assert!(headers.iter().all(|(name, value)| came.get_all(name).iter().any(|old| old == value)));
    let stripped = headers.clone();
    strip_hop_by_hop(&mut headers);
    assert_eq!(headers, stripped);
    if upgrade.is_some() {
        let members = came
            .get_all(UPGRADE)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let mut names = members.map(|member| member.trim_ascii().to_ascii_lowercase());
        assert!(!names.any(|name| name == b"h2c"), "{came:?}");
    }
    join_cookies(&mut headers);
    assert!(headers.get_all(COOKIE).iter().count() <= 1);

    let host = host.map(|host| HeaderValue::try_from(host.as_str()).expect("a header's value"));
    let peer = Peer::new(CLIENT);
    let mut of_trusted = headers.clone();
    tell(&mut of_trusted, Came { peer: &peer, tls: true, host: host.clone(), trusted: true });
    // What came of a peer that is trusted may be no text.
    let clients = only(&of_trusted, "x-forwarded-for").as_bytes();
    assert!(clients == b"192.0.2.1" || clients.ends_with(b", 192.0.2.1"), "{clients:?}");

    tell(&mut headers, Came { peer: &peer, tls: true, host: host.clone(), trusted: false });
    assert_eq!(only(&headers, "x-forwarded-proto"), "https");
    assert_eq!(headers.get("x-forwarded-host"), host.as_ref());
    assert_eq!(only(&headers, "x-forwarded-for"), "192.0.2.1");
}

/// The value of a header that there is once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> &'a HeaderValue {
    let mut values = headers.get_all(name).iter();
    let value = values.next().expect("the header is there");
    assert_eq!(values.next(), None, "{name} is there once");
    value
}
