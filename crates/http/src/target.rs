//! What a request asks for: its target has one of four forms (RFC 9112, section 3.2).

use std::borrow::Cow;

use http::{
    Method, Version,
    request::Parts,
    uri::{PathAndQuery, Scheme},
};

use crate::path::{HiddenDotSegment, without_dot_segments};

/// The request's target is none, or none that a gateway can look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadTarget;

/// The path and query that the request asks for, as rules see them and endpoints get them: in origin form, or
/// `*` for the whole server. Its scheme isn't looked at further: how a request came says its connection.
pub(crate) fn resource(request: &Parts) -> Result<PathAndQuery, BadTarget> {
    let uri = &request.uri;
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(BadTarget);
    }
    // The authority alone is CONNECT's.
    let target = uri.path_and_query().ok_or(BadTarget)?;
    match target.as_str().as_bytes() {
        [b'/', ..] => normal(target),
        b"*" if request.method == Method::OPTIONS && is_alone(request) => Ok(target.clone()),
        // The absolute form may lack the path.
        [b'?', ..] if request.version <= Version::HTTP_11 => normal(target),
        _ => Err(BadTarget),
    }
}

/// Whether the path is all of the target. In HTTP/2 that can't be told: scheme and authority are beside it.
fn is_alone(request: &Parts) -> bool {
    request.version >= Version::HTTP_2 || request.uri.scheme().is_none()
}

/// The target without dot segments.
fn normal(target: &PathAndQuery) -> Result<PathAndQuery, BadTarget> {
    let normal = without_dot_segments(target.path()).map_err(|HiddenDotSegment| BadTarget)?;
    let target = match (target.query(), normal) {
        // hyper writes nothing for a path that is missing.
        (None, path) if path == "/" => return Ok(PathAndQuery::from_static("/")),
        (_, Cow::Borrowed(_)) if target.as_str().starts_with('/') => return Ok(target.clone()),
        (Some(query), path) => format!("{path}?{query}"),
        (None, path) => path.into_owned(),
    };
    PathAndQuery::try_from(target).map_err(|_| BadTarget)
}

#[cfg(test)]
mod tests {
    use http::{Request, Uri};

    use super::*;

    fn resource_of(method: Method, version: Version, target: &str) -> Option<String> {
        let request = Request::builder().method(method).version(version).uri(target);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        resource(&parts).ok().map(|resource| Uri::from(resource).to_string())
    }

    #[test]
    fn a_target_has_one_of_four_forms() {
        let get = |target| resource_of(Method::GET, Version::HTTP_11, target);
        for (target, expected) in [
            ("/", "/"),
            ("/a?b=/../c", "/a?b=/../c"),
            ("//a/b", "//a/b"),
            ("http://a", "/"),
            ("http://a?b", "/?b"),
            ("http://a#b", "/"),
            ("https://a/b/../c?d", "/c?d"),
            ("/a/..//b?c", "//b?c"),
            ("/a/./b?", "/a/b?"),
        ] {
            assert_eq!(get(target).as_deref(), Some(expected), "{target}");
        }
        for target in ["a", "a:80", "*", "ftp://a/b", "/a/..%2fb", "http://a/x%5c..?b"] {
            assert_eq!(get(target), None, "{target}");
        }
        let options = |target| resource_of(Method::OPTIONS, Version::HTTP_11, target);
        assert_eq!(options("*").as_deref(), Some("*"));
        assert_eq!(options("/a").as_deref(), Some("/a"));
        assert_eq!(options("a:80"), None);
    }

    #[test]
    fn a_path_of_http_2_begins_with_a_slash() {
        let of = |method, path: &'static str| {
            let uri = Uri::builder().scheme("http").authority("a");
            let uri = uri.path_and_query(PathAndQuery::from_static(path)).build().unwrap();
            let request = Request::builder().method(method).version(Version::HTTP_2).uri(uri);
            resource(&request.body(()).unwrap().into_parts().0).ok().map(|path| path.to_string())
        };
        assert_eq!(of(Method::GET, "/a/../b").as_deref(), Some("/b"));
        assert_eq!(of(Method::GET, "?a"), None);
        assert_eq!(of(Method::GET, "*"), None);
        assert_eq!(of(Method::OPTIONS, "*").as_deref(), Some("*"));
    }

    #[test]
    fn what_needs_no_change_is_shared() {
        let target = PathAndQuery::from_static("/a%20b/c?d");
        let same = normal(&target).unwrap();
        assert_eq!(same.as_str().as_ptr(), target.as_str().as_ptr());
    }
}
