//! Requests that come back: `CDN-Loop` (RFC 8586) tells who has forwarded a request. Each rule of a listener has a
//! name of its own there. So a request may come through several listeners and rules of one Gateway, as
//! through a chain of proxies, and only one that takes the same rule again has gone round.

use http::{HeaderMap, HeaderName, HeaderValue};
use l4way_host::random_seed;
use l4way_model::{ListenerId, RouteId};

/// Who has forwarded a request.
pub(crate) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// What all names of one proxy are made of. Nobody else has the same.
#[derive(Clone, Debug)]
pub(crate) struct Identity(String);

impl Default for Identity {
    /// Of this process only.
    fn default() -> Self {
        Self(format!("{:016x}{:016x}", random_seed(), random_seed()))
    }
}

impl Identity {
    /// Of all proxies of a Gateway.
    pub(crate) fn of_gateway(uid: &str) -> Self {
        Self(uid.to_owned())
    }
}

/// The name of a rule: `l4way-` and sixteen hexadecimal digits, a pseudonym as RFC 8586 has it.
#[derive(Clone, Debug)]
pub(crate) struct Pseudonym(HeaderValue);

impl Pseudonym {
    /// Of a listener's rule.
    pub(crate) fn new(
        identity: &Identity,
        listener: &ListenerId,
        route: &RouteId,
        rule: usize,
    ) -> Self {
        let Identity(identity) = identity;
        let set = &listener.listener_set;
        let hash = fnv1a(format!("{identity} {listener} {set:?} {route} {rule}").as_bytes());
        let name = HeaderValue::try_from(format!("l4way-{hash:016x}"));
        Self(name.expect("letters and digits are a header's value"))
    }

    /// Whether a request has been forwarded under this name.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.get_all(CDN_LOOP).iter().any(|line| names(line.as_bytes(), self.0.as_bytes()))
    }

    /// Tells who will see the request next that it has been forwarded under this name. Lines that there are
    /// stay as they are (RFC 8586, section 2).
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        headers.append(CDN_LOOP, self.0.clone());
    }
}

/// Whether a field line names somebody.
fn names(line: &[u8], name: &[u8]) -> bool {
    let mut quoted = Quoted::No;
    let is_comma = |byte: &u8| {
        quoted = quoted.after(*byte);
        *byte == b',' && quoted == Quoted::No
    };
    let is_name = |member: &[u8]| {
        let id = member.split(|byte| *byte == b';').next().unwrap_or_default();
        id.trim_ascii().eq_ignore_ascii_case(name)
    };
    let named = line.split(is_comma).any(is_name);
    // What is malformed hides nobody.
    named || quoted != Quoted::No && line.split(|byte| *byte == b',').any(is_name)
}

/// Whether a byte is in a quoted string (RFC 9110, section 5.6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoted {
    No,
    Yes,
    /// Behind a backslash.
    Escaped,
}

impl Quoted {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::No, b'"') => Self::Yes,
            (Self::Yes, b'"') => Self::No,
            (Self::Yes, b'\\') => Self::Escaped,
            (Self::Escaped, _) => Self::Yes,
            (before, _) => before,
        }
    }
}

/// FNV-1a, 64 bits: the same in every build and on every machine.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_member_of_its_own() {
        for line in [
            "l4way-1",
            "L4WAY-1",
            "other, l4way-1",
            "l4way-1;a=b, other",
            " \tl4way-1 ; a = \"b\" ",
            "other; a=\"x, y\\\" z\", l4way-1",
            ",,l4way-1,",
            // Malformed.
            "other; a=\"x, l4way-1",
            "other; a=\"x\\\", l4way-1",
        ] {
            assert!(names(line.as_bytes(), b"l4way-1"), "{line}");
        }
        for line in [
            "",
            "l4way-12",
            "l4way",
            "other; a=l4way-1",
            "other; a=\", l4way-1\"",
            "other; a=\"x\\\", l4way-1\", another",
            "other l4way-1",
        ] {
            assert!(!names(line.as_bytes(), b"l4way-1"), "{line}");
        }
    }
}
