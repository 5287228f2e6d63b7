//! Where the body of a message ends (RFC 9112, section 6): an endpoint and a client have to see the same end as
//! l4way did.

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use hyper::body::{Body, Incoming};

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// The body has a transfer coding that isn't known here, and can't be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownCoding;

/// Whether the body is chunked. Other codings are about one connection: they would have to be undone.
pub(crate) fn is_chunked(headers: &HeaderMap) -> Result<bool, UnknownCoding> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(UnknownCoding),
    }
}

/// Says of a request, whose headers about its connection are gone, where its body ends. To hyper a GET or HEAD
/// has none if its length isn't known, unless it is told.
pub(crate) fn tell_of_request(headers: &mut HeaderMap, body: &Incoming) {
    match body.size_hint().exact() {
        Some(length) => unite_lengths(headers, length),
        None if body.is_end_stream() => {}
        None => {
            headers.remove(CONTENT_LENGTH);
            headers.insert(TRANSFER_ENCODING, CHUNKED);
        }
    }
}

/// Says of an answer where its body ends, if it says so itself.
///
/// # Errors
/// If its coding isn't known, or it has several lengths.
pub(crate) fn tell_of_answer(headers: &mut HeaderMap) -> Result<(), BadAnswer> {
    if is_chunked(headers).map_err(|UnknownCoding| BadAnswer)? {
        // The coding goes before the length (RFC 9112, section 6.3), and is about the connection.
        headers.remove(CONTENT_LENGTH);
        return Ok(());
    }
    if let Some(length) = only_length(headers)? {
        unite_lengths(headers, length);
    }
    Ok(())
}

/// An endpoint's answer doesn't say clearly where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadAnswer;

/// The length that a message has.
fn only_length(headers: &HeaderMap) -> Result<Option<u64>, BadAnswer> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().flat_map(lengths);
    let Some(first) = lengths.next().transpose()? else { return Ok(None) };
    if lengths.all(|length| length == Ok(first)) { Ok(Some(first)) } else { Err(BadAnswer) }
}

/// The lengths of a field line, of which several may have been put together (RFC 9110, section 8.6).
fn lengths(line: &HeaderValue) -> impl Iterator<Item = Result<u64, BadAnswer>> {
    line.as_bytes().split(|byte| *byte == b',').map(|length| {
        let length = length.trim_ascii();
        let text = str::from_utf8(length).map_err(|_| BadAnswer)?;
        let is_number = length.iter().all(u8::is_ascii_digit);
        text.parse().ok().filter(|_| is_number).ok_or(BadAnswer)
    })
}

/// Makes one length of several equal ones (RFC 9110, section 8.6). Where there is none, none is said.
fn unite_lengths(headers: &mut HeaderMap, length: u64) {
    let mut said = headers.get_all(CONTENT_LENGTH).iter();
    let (first, second) = (said.next(), said.next());
    let is_one = second.is_none() && first.is_none_or(|first| !first.as_bytes().contains(&b','));
    if !is_one {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::headers;

    #[test]
    fn a_body_is_chunked_or_as_it_is() {
        let coding = |values: &[&'static str]| {
            let of = |value: &&'static str| ("transfer-encoding", *value);
            is_chunked(&headers(&values.iter().map(of).collect::<Vec<_>>()))
        };
        assert_eq!(coding(&[]), Ok(false));
        assert_eq!(coding(&["Chunked"]), Ok(true));
        for unknown in [&["gzip, chunked"][..], &["chunked", "chunked"], &["identity"], &[""]] {
            assert_eq!(coding(unknown), Err(UnknownCoding), "{unknown:?}");
        }
    }

    #[test]
    fn an_answer_has_one_length() {
        let length = |values: &[&'static str]| {
            let of = |value: &&'static str| ("content-length", *value);
            let mut map = headers(&values.iter().map(of).collect::<Vec<_>>());
            tell_of_answer(&mut map)?;
            let said = map.get_all(CONTENT_LENGTH).iter();
            Ok(said.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>().join("|"))
        };
        assert_eq!(length(&[]), Ok(String::new()));
        assert_eq!(length(&["3"]), Ok("3".to_owned()));
        assert_eq!(length(&["3", "3"]), Ok("3".to_owned()));
        assert_eq!(length(&["3, 3"]), Ok("3".to_owned()));
        for bad in [&["3", "4"][..], &["3, 4"], &["+3"], &[""], &["3,"], &["99999999999999999999"]]
        {
            assert_eq!(length(bad), Err(BadAnswer), "{bad:?}");
        }
    }

    #[test]
    fn the_coding_of_an_answer_goes_before_its_length() {
        let mut map = headers(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        assert_eq!(tell_of_answer(&mut map), Ok(()));
        assert!(!map.contains_key(CONTENT_LENGTH));
        let mut map = headers(&[("transfer-encoding", "gzip, chunked")]);
        assert_eq!(tell_of_answer(&mut map), Err(BadAnswer));
    }
}
