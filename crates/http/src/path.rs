//! The paths of requests: in the form that is forwarded, and in the one that rules are matched by.
//!
//! Dot segments are removed (RFC 3986, section 6.2.2.3), so that an endpoint sees no other resource than the
//! rules did. What an endpoint may take for a separator though it is none (`%2F`, `%5C`, and the backslash,
//! which no path may have) stays as it is, unless there would be a dot segment then.

use std::borrow::Cow;

/// An endpoint may find a dot segment in the path where the rules see none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HiddenDotSegment;

/// The path without its dot segments: all other bytes stay as they are. `path` begins with a slash, and so
/// does the result. Nothing is allocated for a path without any.
pub(crate) fn without_dot_segments(path: &str) -> Result<Cow<'_, str>, HiddenDotSegment> {
    if !may_have_dot_segments(path) {
        return Ok(Cow::Borrowed(path));
    }
    let mut has_any = false;
    for segment in segments(path) {
        match dot_segment(segment) {
            Some(_) => has_any = true,
            None if hides_dot_segment(segment) => return Err(HiddenDotSegment),
            None => {}
        }
    }
    Ok(if has_any { Cow::Owned(remove(path)) } else { Cow::Borrowed(path) })
}

/// The form in which two paths are the same that mean the same (RFC 3986, sections 6.2.2.1 and 6.2.2.2): octets
/// are encoded only if they have to be, and in upper case. A percent sign that begins no escape stands for itself, as
/// `%25` does: with what comes after it, it never becomes one. Nothing is allocated if it is the path itself.
pub(crate) fn comparable(path: &str) -> Cow<'_, str> {
    let Some(first) = path.find('%') else { return Cow::Borrowed(path) };
    let (before, mut rest) = path.split_at(first);
    let mut form = before.to_owned();
    while let Some(at) = rest.find('%') {
        let (plain, encoded) = rest.split_at(at);
        form.push_str(plain);
        match octet(encoded) {
            Some(octet) if is_unreserved(octet) => form.push(char::from(octet)),
            Some(_) => form.push_str(&encoded[..3].to_ascii_uppercase()),
            None => {
                form.push_str("%25");
                rest = &encoded[1..];
                continue;
            }
        }
        rest = &encoded[3..];
    }
    form.push_str(rest);
    Cow::Owned(form)
}

/// A segment that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DotSegment {
    /// `.`
    This,
    /// `..`
    Parent,
}

/// Whether a closer look is needed: a dot segment begins with a dot, which may be encoded, behind a slash or
/// what is taken for one.
fn may_have_dot_segments(path: &str) -> bool {
    let mut before = b'/';
    path.bytes().any(|byte| {
        let found = matches!(byte, b'%' | b'\\') || before == b'/' && byte == b'.';
        before = byte;
        found
    })
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// Which dot segment this is, if it is one. A dot may be encoded, as it is unreserved.
fn dot_segment(segment: &str) -> Option<DotSegment> {
    let after_dot = |text: &'_ str| -> Option<usize> {
        match text.as_bytes() {
            [b'.', ..] => Some(1),
            [b'%', b'2', b'e' | b'E', ..] => Some(3),
            _ => None,
        }
    };
    let second = &segment[after_dot(segment)?..];
    if second.is_empty() {
        return Some(DotSegment::This);
    }
    let rest = &second[after_dot(second)?..];
    rest.is_empty().then_some(DotSegment::Parent)
}

/// Whether a part of the segment is a dot segment to those who take `%2F`, `%5C` or a backslash for a slash.
fn hides_dot_segment(segment: &str) -> bool {
    let mut rest = segment;
    let mut is_divided = false;
    while let Some((at, length)) = separator(rest) {
        is_divided = true;
        if dot_segment(&rest[..at]).is_some() {
            return true;
        }
        rest = &rest[at + length..];
    }
    is_divided && dot_segment(rest).is_some()
}

/// Where the first of what may be taken for a slash is, and its length.
fn separator(text: &str) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find_map(|at| match &bytes[at..] {
        [b'\\', ..] => Some((at, 1)),
        [b'%', b'2', b'f' | b'F', ..] | [b'%', b'5', b'c' | b'C', ..] => Some((at, 3)),
        _ => None,
    })
}

/// Removes dot segments (RFC 3986, section 5.2.4).
fn remove(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = segments(path).peekable();
    while let Some(segment) = segments.next() {
        match dot_segment(segment) {
            None => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
            Some(DotSegment::This) => {}
            Some(DotSegment::Parent) => out.truncate(out.rfind('/').unwrap_or_default()),
        }
        if segments.peek().is_none() {
            out.push('/');
        }
    }
    out
}

/// The octet that is encoded at the beginning of the text.
fn octet(text: &str) -> Option<u8> {
    let [b'%', high, low, ..] = text.as_bytes() else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// RFC 3986, section 2.3.
fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> Option<String> {
        without_dot_segments(path).ok().map(Cow::into_owned)
    }

    #[test]
    fn dot_segments_are_removed() {
        for (path, expected) in [
            ("/a/./b", "/a/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/%2E%2e/c", "/a/c"),
            ("/a/b/.%2E/c", "/a/c"),
            ("/../a", "/a"),
            ("/a/../../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/..", "/"),
            ("/.", "/"),
            ("/a//../b", "/a/b"),
            ("/a//../../b", "/b"),
            ("/a/..//b", "//b"),
            ("//a/./b", "//a/b"),
            // The example of RFC 3986, section 5.2.4.
            ("/a/b/c/./../../g", "/a/g"),
            ("/a%2Fb/../%41", "/%41"),
        ] {
            assert_eq!(normal(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn all_else_stays_and_costs_nothing() {
        for path in [
            "/",
            "//",
            "/a/b//c",
            "/a%2Fb%2fc%5Cd%5ce\\f",
            "/a/...",
            "/a/..b/.c/d./e..",
            "/..;/a",
            "/%252e%252e/a",
            "/%252f..%255c",
            "/%2F..c/%5C.d",
            "/%",
            "/%2",
            "/%2e%2",
            "/%zz/\u{e9}",
        ] {
            let kept = without_dot_segments(path);
            assert!(matches!(kept, Ok(Cow::Borrowed(same)) if same == path), "{path}: {kept:?}");
        }
    }

    #[test]
    fn a_dot_segment_that_somebody_may_see_is_refused() {
        for path in [
            "/a/..%2fb",
            "/a/%2e%2e%2Fb",
            "/a/..%5cb",
            "/a/x%2F..%2Fb",
            "/a/x%5C%2e%2E/b",
            "/a/%2e%2Fb",
            "/a/x%2F.",
            "/a/..\\b",
            "/a/x\\..",
            "/%2f../..",
        ] {
            assert_eq!(normal(path), None, "{path}");
        }
    }

    #[test]
    fn rules_compare_what_paths_mean() {
        for (path, expected) in [
            ("/a", "/a"),
            ("/%61%2Db%2e%7E%5f", "/a-b.~_"),
            ("/%c3%a9%3a%2f%5c%25", "/%C3%A9%3A%2F%5C%25"),
            ("/%2561", "/%2561"),
            ("/%%61%", "/%25a%25"),
            ("/%4", "/%254"),
            ("/%2%65", "/%252e"),
            ("/%\u{e9}%61", "/%25\u{e9}a"),
        ] {
            assert_eq!(comparable(path), expected, "{path}");
        }
        assert!(matches!(comparable("/a/b"), Cow::Borrowed(_)));
    }

    /// Paths of what matters: dots, slashes, escapes of both, and others.
    fn paths() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "/", "/", ".", ".", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", "%25", "%61", "%", "%2",
            "%65", "a", "b", "\u{e9}", ";", "..",
        ]);
        prop::collection::vec(part, 0..16).prop_map(|parts| format!("/{}", parts.concat()))
    }

    /// Whether there is a dot segment for those who decode the path once, and take a backslash for a slash.
    fn has_dot_segment(path: &str) -> bool {
        let decoded = path
            .replace("%2e", ".")
            .replace("%2E", ".")
            .replace("%2f", "/")
            .replace("%2F", "/")
            .replace("%5c", "/")
            .replace('\\', "/");
        decoded.split('/').any(|segment| matches!(segment, "." | ".."))
    }

    proptest! {
        #[test]
        fn nobody_finds_a_dot_segment_in_what_is_forwarded(path in paths()) {
            if let Some(normal) = normal(&path) {
                prop_assert!(normal.starts_with('/'));
                prop_assert!(!has_dot_segment(&normal), "{normal}");
            }
        }

        #[test]
        fn what_is_normal_stays(path in paths()) {
            if let Some(once) = normal(&path) {
                prop_assert_eq!(normal(&once), Some(once.clone()));
            }
        }

        #[test]
        fn a_path_without_dot_segments_is_forwarded_byte_for_byte(path in paths()) {
            if !has_dot_segment(&path) {
                prop_assert_eq!(normal(&path), Some(path.clone()));
            }
        }

        #[test]
        fn what_stays_is_a_part_of_what_came(path in paths()) {
            if let Some(normal) = normal(&path) {
                let came: Vec<_> = segments(&path).collect();
                let stays = segments(&normal).all(|s| s.is_empty() || came.contains(&s));
                prop_assert!(stays, "{} of {}", normal, path);
            }
        }

        #[test]
        fn what_is_comparable_is_its_own_form(path in paths()) {
            let once = comparable(&path).into_owned();
            prop_assert_eq!(comparable(&once), once.as_str());
        }

        #[test]
        fn any_text_is_looked_at_without_a_panic(text in ".*") {
            let path = format!("/{text}");
            let _ = normal(&path);
            let _ = comparable(&path);
        }
    }
}
