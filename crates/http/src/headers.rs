//! What a proxy changes in the headers that it passes on.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_TYPE, COOKIE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

use crate::{forwarding, loops::CDN_LOOP};

/// Headers about one connection, not about the message (RFC 9110, section 7.6.1), and what
/// clients and proxies agree upon.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes away what is about one connection: those headers that are by nature, and those that the
/// Connection header names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let tokens = headers.get_all(CONNECTION).iter().flat_map(tokens);
    let named: Vec<_> =
        tokens.filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok()).collect();
    // Nobody may take away where a request has been (RFC 8586, section 2), nor for whom it is forwarded.
    let stays = |name: &HeaderName| *name == CDN_LOOP || forwarding::says_how(name);
    let named = named.iter().filter(|name| !stays(name));
    for name in named.chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The protocol that a message would upgrade its connection to. h2c isn't one: the requests in it
/// would pass the routes by.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut connection = headers.get_all(CONNECTION).iter().flat_map(tokens);
    let upgrade = headers.get(UPGRADE)?;
    let wanted = connection.any(|token| token.eq_ignore_ascii_case("upgrade"));
    let h2c = headers
        .get_all(UPGRADE)
        .iter()
        .flat_map(tokens)
        .any(|token| token.eq_ignore_ascii_case("h2c"));
    (wanted && !h2c).then(|| upgrade.clone())
}

/// How content types of gRPC begin.
const GRPC: &[u8] = b"application/grpc";

/// Whether a message is of gRPC, whose streams may be silent for as long as they want.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|value| {
        value.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
    })
}

/// Asks for the upgrade, or agrees to it.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Makes one Cookie header of several: HTTP/2 may divide it, HTTP/1.1 may not (RFC 9113, section
/// 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// The elements of a list (RFC 9110, section 5.6.1). One that is no text is passed over, and hides no other.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let members = value.as_bytes().split(|byte| *byte == b',');
    let texts = members.filter_map(|member| std::str::from_utf8(member).ok());
    texts.map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Headers, in this order.
    pub(crate) fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair =
            |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        list.iter().map(pair).collect()
    }

    #[test]
    fn what_is_about_a_connection_stays_there() {
        let mut map = headers(&[
            ("connection", "close, X-One"),
            ("connection", "x-two, x-forwarded-for, cdn-loop"),
            ("x-forwarded-for", "192.0.2.1"),
            ("cdn-loop", "a"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("trailer", "x-sum"),
        ]);
        strip_hop_by_hop(&mut map);
        let stays = [
            ("x-forwarded-for", "192.0.2.1"),
            ("cdn-loop", "a"),
            ("x-three", "3"),
            ("trailer", "x-sum"),
        ];
        assert_eq!(map, headers(&stays));
    }

    #[test]
    fn an_upgrade_has_to_be_wanted_by_name_and_is_never_h2c() {
        let wanted = |list: &[_]| upgrade(&headers(list)).map(|to| to.to_str().unwrap().to_owned());
        let connection = ("connection", "keep-alive, Upgrade");
        assert_eq!(wanted(&[connection, ("upgrade", "websocket")]), Some("websocket".to_owned()));
        assert_eq!(wanted(&[("upgrade", "websocket")]), None);
        assert_eq!(wanted(&[connection, ("upgrade", "H2C")]), None);
        assert_eq!(wanted(&[connection, ("upgrade", "websocket"), ("upgrade", "h2c")]), None);
        assert_eq!(wanted(&[connection]), None);
    }

    #[test]
    fn what_is_no_text_hides_no_other_member_of_a_list() {
        let mut map = headers(&[("x-one", "1")]);
        let odd = |value: &[u8]| HeaderValue::from_bytes(value).unwrap();
        map.insert(CONNECTION, odd(b"\xff, x-one, upgrade"));
        map.insert(UPGRADE, odd(b"h2c\xff, h2c"));
        assert_eq!(upgrade(&map), None);
        strip_hop_by_hop(&mut map);
        assert!(map.is_empty(), "{map:?}");
    }

    #[test]
    fn cookies_are_one_header() {
        let mut map = headers(&[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
        join_cookies(&mut map);
        assert_eq!(map, headers(&[("cookie", "a=1; b=2; c=3")]));
    }
}
