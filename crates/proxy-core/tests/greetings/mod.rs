//! Any bytes at all as what a TLS client begins with.

use l4way_proxy_core::{Greeting, GreetingError, MAX_GREETING, read_greeting};

type Result = std::result::Result<Greeting, GreetingError>;

const RECORD_HEADER: usize = 5;

pub(crate) fn check(bytes: &[u8]) {
    let whole = read_greeting(bytes);
    for cut in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let part = read_greeting(&bytes[..cut]);
        assert!(is_incomplete(&part) || leads_to(&part, &whole), "{part:?}, then {whole:?}");
    }
    assert!(leads_to(&read_as_needed(bytes), &whole));
    if let Ok(Greeting::ClientHello(hello)) = &whole {
        assert!(hello.server_name.as_deref().is_none_or(is_usual), "{hello:?}");
        if let Some(halves) = in_two_records(bytes) {
            assert_eq!(read_greeting(&halves), whole);
        }
    }
}

fn is_incomplete(result: &Result) -> bool {
    matches!(result, Ok(Greeting::Incomplete { .. }))
}

/// Whether what was read of the first bytes may be what is read of more: it must be the same, unless
/// a request of PostgreSQL is followed by something, which isn't allowed.
fn leads_to(first: &Result, more: &Result) -> bool {
    let request = matches!(first, Ok(Greeting::SslRequest | Greeting::GssEncRequest));
    first == more || request && *more == Err(GreetingError::Hasty)
}

/// What a caller reads who waits for the bytes that are needed.
fn read_as_needed(bytes: &[u8]) -> Result {
    let mut have = 0;
    loop {
        let result = read_greeting(&bytes[..have]);
        let Ok(Greeting::Incomplete { needed }) = result else { return result };
        assert!(have < needed && needed <= MAX_GREETING, "{needed} after {have}");
        if needed > bytes.len() {
            // The rest may tell already that it won't be one.
            return read_greeting(bytes);
        }
        have = needed;
    }
}

/// A server name in lower case and without final dot, of characters that a host's name may have.
fn is_usual(name: &str) -> bool {
    let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    (1..=253).contains(&name.len()) && !name.ends_with('.') && name.chars().all(usual)
}

/// A hello that has one record, if it does, in two.
fn in_two_records(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u16::from_be_bytes([bytes[3], bytes[4]]).into();
    let message = &bytes[RECORD_HEADER..][..length];
    let body = u32::from_be_bytes([0, *message.get(1)?, *message.get(2)?, *message.get(3)?]);
    if body as usize + 4 != message.len() {
        return None;
    }
    let record =
        |payload: &[u8]| [&[22, 3, 1], &(payload.len() as u16).to_be_bytes()[..], payload].concat();
    Some(message.chunks(message.len().div_ceil(2)).flat_map(record).collect())
}
