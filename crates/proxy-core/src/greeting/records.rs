//! The records that a `ClientHello` comes in (RFC 8446, section 5.1).

use std::{borrow::Cow, cmp::Ordering, iter, ops::Range};

use super::{
    Alert,
    GreetingError::{Malformed, TooLarge},
    MAX_GREETING, Stop,
};

/// The type of records with handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
/// The type of records with alerts.
pub(super) const ALERT: u8 = 21;
/// Those with other things: change_cipher_spec, and what is sent once there are keys.
const CHANGE_CIPHER_SPEC: u8 = 20;
const APPLICATION_DATA: u8 = 23;
/// The version of a record is 3.x; which x doesn't matter.
pub(super) const MAJOR_VERSION: u8 = 3;

/// Type, version and length of the payload.
const RECORD_HEADER: usize = 5;
const MAX_PAYLOAD: usize = 1 << 14;
/// Two suffice for the largest hello, but some clients cut small ones to get past a middlebox.
const MAX_RECORDS: usize = 32;

/// The type of the message, and 24 bits for the length of its body.
pub(super) const MESSAGE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;

/// Whether a record may begin with this byte that a client must not begin with. One that begins with an
/// alert needs none.
pub(super) fn may_begin(first: u8) -> bool {
    matches!(first, CHANGE_CIPHER_SPEC | APPLICATION_DATA)
}

/// The `ClientHello` that `bytes` begin with, from the header of the message to its end. It is copied
/// only if it is in several records.
pub(super) fn client_hello(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Stop> {
    let records = records_of_hello(bytes)?;
    let mut payloads = payloads(records);
    let first = payloads.next().unwrap_or_default();
    if first.len() + RECORD_HEADER == records.len() {
        return Ok(first.into());
    }
    Ok(iter::once(first).chain(payloads).flatten().copied().collect())
}

/// The bytes from the first to the last record with a part of the hello.
fn records_of_hello(bytes: &[u8]) -> Result<&[u8], Stop> {
    let mut header = [0; MESSAGE_HEADER];
    let mut end_of_record = 0;
    // How much of the message is in the records so far.
    let mut length = 0;
    for _ in 0..MAX_RECORDS {
        let payload = payload(bytes, end_of_record)?;
        let missing = payload.len().min(MESSAGE_HEADER.saturating_sub(length));
        let part = up_to(bytes, payload.start + missing)?;
        header[MESSAGE_HEADER.min(length)..][..missing].copy_from_slice(&part[payload.start..]);

        length += payload.len();
        end_of_record = payload.end;
        if length > 0 && header[0] != CLIENT_HELLO {
            return Err(unexpected("the first message is no ClientHello"));
        }
        if length < MESSAGE_HEADER {
            continue;
        }
        match length.cmp(&message_length(header)?) {
            Ordering::Less => {}
            Ordering::Equal => return up_to(bytes, end_of_record),
            // The client can't know yet what the server wants next.
            Ordering::Greater => {
                return Err(unexpected("the ClientHello ends before its record"));
            }
        }
    }
    Err(TooLarge.into())
}

fn unexpected(what: &'static str) -> Stop {
    Malformed(Alert::UnexpectedMessage, what).into()
}

/// The length of a message with its header.
fn message_length([_, high, middle, low]: [u8; MESSAGE_HEADER]) -> Result<usize, Stop> {
    let length = MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
    if length + RECORD_HEADER > MAX_GREETING { Err(TooLarge.into()) } else { Ok(length) }
}

/// Where the payload of the record is that begins at `start`. Not all of it need be there.
fn payload(bytes: &[u8], start: usize) -> Result<Range<usize>, Stop> {
    let start_of_payload = start + RECORD_HEADER;
    let header = &up_to(bytes, start_of_payload)?[start..];
    if header[0] != HANDSHAKE {
        return Err(unexpected("another record interrupts the ClientHello"));
    }
    if header[1] != MAJOR_VERSION {
        return Err(Malformed(Alert::ProtocolVersion, "a record isn't of TLS").into());
    }
    let length = payload_length(header);
    if length > MAX_PAYLOAD {
        return Err(Malformed(Alert::RecordOverflow, "a record is larger than 16 KiB").into());
    }
    let end = start_of_payload + length;
    if end > MAX_GREETING {
        return Err(TooLarge.into());
    }
    Ok(start_of_payload..end)
}

/// The first `end` bytes, if there are so many.
fn up_to(bytes: &[u8], end: usize) -> Result<&[u8], Stop> {
    if end > MAX_GREETING {
        return Err(TooLarge.into());
    }
    bytes.get(..end).ok_or(Stop::Needs(end))
}

/// The payloads of whole records.
fn payloads(mut records: &[u8]) -> impl Iterator<Item = &[u8]> {
    iter::from_fn(move || {
        let (header, rest) = records.split_at_checked(RECORD_HEADER)?;
        let (payload, rest) = rest.split_at_checked(payload_length(header))?;
        records = rest;
        Some(payload)
    })
}

fn payload_length(record_header: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([record_header[3], record_header[4]]))
}
