//! What real clients begin with is read as what they were told to send. `make hellos` recorded it:
//! `hellos/index.txt` says which client sent what.

use std::{fs, path::Path};

use l4way_proxy_core::{Greeting, GreetingError, MAX_GREETING, read_greeting};
use proptest::prelude::*;

const RECORD_HEADER: usize = 5;

/// One line of the index, and the file it is about.
struct Recorded {
    file: String,
    greeting: String,
    server_name: Option<String>,
    protocols: Vec<String>,
    bytes: Vec<u8>,
}

impl Recorded {
    fn all() -> Vec<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hellos");
        let index = fs::read_to_string(directory.join("index.txt")).expect("an index");
        index.lines().map(|line| Self::read(&directory, line)).collect()
    }

    fn hellos() -> impl Iterator<Item = Self> {
        Self::all().into_iter().filter(|recorded| recorded.greeting == "hello")
    }

    fn read(directory: &Path, line: &str) -> Self {
        let fields: Vec<_> = line.split('\t').collect();
        let [file, greeting, server_name, protocols, _client] = fields[..] else {
            panic!("not five fields: {line}");
        };
        let some = |field: &str| (field != "-").then(|| field.to_owned());
        Self {
            file: file.into(),
            greeting: greeting.into(),
            server_name: some(server_name),
            protocols: some(protocols).iter().flat_map(|p| p.split(',')).map(Into::into).collect(),
            bytes: fs::read(directory.join(file)).expect(file),
        }
    }

    fn read_greeting(&self) -> Greeting {
        read_greeting(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.file))
    }

    /// The ClientHello, which is the first of the records; early data may follow.
    fn message(&self) -> &[u8] {
        let length = usize::from(u16::from_be_bytes([self.bytes[3], self.bytes[4]]));
        &self.bytes[RECORD_HEADER..][..length]
    }

    /// How many bytes the greeting itself has.
    fn length(&self) -> usize {
        match self.greeting.as_str() {
            "hello" => RECORD_HEADER + self.message().len(),
            _ => self.bytes.len(),
        }
    }
}

fn record(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&[22, 3, 3][..], &length, payload].concat()
}

#[test]
fn they_are_what_the_clients_were_told() {
    let all = Recorded::all();
    assert!(all.len() >= 20, "only {} greetings found", all.len());
    for recorded in all {
        let file = &recorded.file;
        match (recorded.greeting.as_str(), recorded.read_greeting()) {
            ("hello", Greeting::ClientHello(hello)) => {
                assert_eq!(hello.server_name.as_deref(), recorded.server_name.as_deref(), "{file}");
                for protocol in ["h2", "http/1.1", "mqtt", "postgresql", "http", ""] {
                    let told = recorded.protocols.iter().any(|p| p == protocol);
                    assert_eq!(hello.offers(protocol.as_bytes()), told, "{file}: {protocol}");
                }
            }
            ("ssl-request", Greeting::SslRequest) => {}
            ("gss-enc-request", Greeting::GssEncRequest) => {}
            other => panic!("{file}: {other:?}"),
        }
    }
}

#[test]
fn a_part_of_one_is_incomplete() {
    for recorded in Recorded::all() {
        let length = recorded.length();
        for have in 0..length {
            let greeting = read_greeting(&recorded.bytes[..have]);
            let Ok(Greeting::Incomplete { needed }) = greeting else {
                panic!("{have} of {}: {greeting:?}", recorded.file);
            };
            assert!(have < needed && needed <= length, "{have} of {}: {needed}", recorded.file);
        }
        assert_eq!(read_greeting(&recorded.bytes[..length]), Ok(recorded.read_greeting()));
    }
}

/// However slowly a client sends, a caller that heeds `needed` has little to do.
#[test]
fn few_calls_read_one() {
    for recorded in Recorded::hellos() {
        let records: Vec<_> = recorded.message().chunks(100).flat_map(record).collect();
        let (mut calls, mut have) = (0, 0);
        while let Ok(Greeting::Incomplete { needed }) = read_greeting(&records[..have]) {
            (calls, have) = (calls + 1, needed);
        }
        assert_eq!(have, records.len(), "{}", recorded.file);
        let count = recorded.message().len().div_ceil(100);
        assert!(calls <= 3 + count, "{}: {calls} calls for {count} records", recorded.file);
    }
}

#[test]
fn other_records_carry_the_same() {
    for recorded in Recorded::hellos() {
        let message = recorded.message();
        // As small as the number of records allows.
        let least = message.len().div_ceil(32);
        for size in (least..=message.len()).step_by(7).chain([message.len()]) {
            let records: Vec<_> = message.chunks(size).flat_map(record).collect();
            assert_eq!(read_greeting(&records), Ok(recorded.read_greeting()), "{}", recorded.file);
        }
        // In two, with an empty one between them; the header, too.
        for at in 1..message.len() {
            let (first, second) = message.split_at(at);
            let records = [record(first), record(&[]), record(second)].concat();
            assert_eq!(read_greeting(&records), Ok(recorded.read_greeting()), "{}", recorded.file);
        }
        let smaller: Vec<_> = message.chunks(least - 1).flat_map(record).collect();
        assert_eq!(read_greeting(&smaller), Err(GreetingError::TooLarge), "{}", recorded.file);
    }
}

#[test]
fn what_follows_a_hello_doesnt_matter() {
    for recorded in Recorded::hellos() {
        let hello = &recorded.bytes[..recorded.length()];
        for next in [&b"\x17\x03\x03\x00\x05early"[..], b"\x15\x03\x03\x00\x02\x01\x00", b"?"] {
            let greeting = read_greeting(&[hello, next].concat());
            assert_eq!(greeting, Ok(recorded.read_greeting()), "{}", recorded.file);
        }
    }
}

proptest! {
    /// Damage makes them malformed or leaves them hellos, but never panics.
    #[test]
    fn damaged_ones_dont_panic(
        which: prop::sample::Index,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut: prop::sample::Index,
    ) {
        let all = Recorded::all();
        let mut bytes = which.get(&all).bytes.clone();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(Greeting::Incomplete { needed }) = read_greeting(bytes) {
                prop_assert!(bytes.len() < needed && needed <= MAX_GREETING);
            }
        }
    }
}
