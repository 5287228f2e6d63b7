use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest};

use super::{
    Alert::{
        self, DecodeError, IllegalParameter, ProtocolVersion, RecordOverflow, UnexpectedMessage,
    },
    Greeting, GreetingError,
    GreetingError::Malformed,
    GreetingError::NotTls,
    GreetingError::TooLarge,
    MAX_GREETING, read_greeting,
};

/// `content` behind its length in as many bytes.
fn vec_of(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - length_bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vec_of(2, content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vec_of(2, &[&[0][..], &vec_of(2, name)].concat()))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|protocol| vec_of(1, protocol)).collect();
    extension(16, &vec_of(2, &list))
}

/// A ClientHello of these fields, as a message without records.
fn message_of(session_id: &[u8], cipher_suites: &[u8], compression: &[u8], rest: &[u8]) -> Vec<u8> {
    let lists = [vec_of(1, session_id), vec_of(2, cipher_suites), vec_of(1, compression)];
    let body = [&[3, 3][..], &[7; 32], &lists.concat(), rest].concat();
    [&[1][..], &vec_of(3, &body)].concat()
}

/// GREASE, and TLS_AES_128_GCM_SHA256.
const CIPHER_SUITES: [u8; 4] = [0x1a, 0x1a, 0x13, 0x01];

/// A ClientHello with these extensions, as a message without records.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    message_of(&[9; 32], &CIPHER_SUITES, &[0], &vec_of(2, &extensions.concat()))
}

fn record(payload: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &vec_of(2, payload)].concat()
}

/// A message in records with payloads of `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(record).collect()
}

fn read_extensions(extensions: &[Vec<u8>]) -> Result<Greeting, GreetingError> {
    read_greeting(&record(&message(extensions)))
}

/// What the client is told.
fn alert_of(greeting: Result<Greeting, GreetingError>) -> Alert {
    match greeting {
        Err(error @ Malformed(..)) => error.alert().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn name_of(greeting: Result<Greeting, GreetingError>) -> Option<Box<str>> {
    match greeting {
        Ok(Greeting::ClientHello(hello)) => hello.server_name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hello_says_whom_it_wants_and_what_it_speaks() {
    let grease = extension(0x2a2a, &[0]);
    let alpn = alpn(&[b"\x0a\x0a", b"h2", b"http/1.1"]);
    let greeting = read_extensions(&[grease, server_name(b"Www.Example.COM."), alpn]);
    let Ok(Greeting::ClientHello(hello)) = greeting else { panic!("{greeting:?}") };
    assert_eq!(hello.server_name.as_deref(), Some("www.example.com"));
    assert!(hello.offers(b"h2") && hello.offers(b"http/1.1"));
    assert!(!hello.offers(b"http") && !hello.offers(b"") && !hello.offers(b"2\x08http/1.1"));
}

#[test]
fn a_hello_needs_no_extensions() {
    for message in [message(&[]), message_of(&[], &CIPHER_SUITES, &[0], &[])] {
        let greeting = read_greeting(&record(&message));
        let Ok(Greeting::ClientHello(hello)) = greeting else { panic!("{greeting:?}") };
        assert!(hello.server_name.is_none() && !hello.names_server);
    }
}

#[test]
fn a_client_is_outdated_whose_only_version_is() {
    let outdated = |version: [u8; 2], extensions: &[Vec<u8>]| {
        let mut message = message(extensions);
        message[4..6].copy_from_slice(&version);
        let greeting = read_greeting(&record(&message));
        let Ok(Greeting::ClientHello(hello)) = greeting else { panic!("{greeting:?}") };
        hello.is_outdated
    };
    for version in [[3, 0], [3, 1], [3, 2], [2, 0]] {
        assert!(outdated(version, &[]) && outdated(version, &[server_name(b"a")]), "{version:?}");
        assert!(!outdated(version, &[extension(43, &[2, 3, 4])]), "{version:?}");
    }
    assert!(!outdated([3, 3], &[]) && !outdated([3, 4], &[]));
}

#[test]
fn an_address_is_no_server_name() {
    for address in ["192.0.2.1", "192.0.2.1.", "2001:db8::1"] {
        let greeting = read_extensions(&[server_name(address.as_bytes())]);
        let Ok(Greeting::ClientHello(hello)) = greeting else { panic!("{address}: {greeting:?}") };
        assert!(hello.server_name.is_none() && hello.names_server, "{address}");
    }
}

#[test]
fn names_are_plausible_or_malformed() {
    let long = [&["a"; 63].concat(), "."].concat().repeat(4);
    for name in ["a", "_a.b-", "xn--bcher-kva.example", "1.2.3.4.example", &long[..253]] {
        assert_eq!(
            name_of(read_extensions(&[server_name(name.as_bytes())])).as_deref(),
            Some(name)
        );
    }
    let label = ["a"; 64].concat();
    let bad: [&[u8]; 12] = [
        b".",
        b"..",
        b"a..b",
        b".a",
        b"a..",
        b"a b",
        b"a\0",
        b"*.a",
        b"[::1]",
        b"\xc3\xa4",
        b"\xff",
        label.as_bytes(),
    ];
    for name in bad.into_iter().chain([[&long[..253], "a"].concat().as_bytes()]) {
        let alert = alert_of(read_extensions(&[server_name(name)]));
        assert_eq!(alert, IllegalParameter, "{name:?}");
    }
}

#[test]
fn malformed_lists_are_no_hello() {
    let host = [0, 0, 1, b'a'];
    // RFC 8446, section 4.2: no extension comes twice. RFC 6066, section 3: nor does a name's kind.
    let illegal = [
        vec![server_name(b"a"), server_name(b"a")],
        vec![alpn(&[b"h2"]), alpn(&[b"h2"])],
        vec![extension(0, &vec_of(2, &[host, host].concat()))],
    ];
    let broken = [
        vec![server_name(b"")],
        vec![extension(0, &[])],
        vec![extension(0, &[0, 0])],
        vec![extension(0, &vec_of(2, &host[..3]))],
        vec![extension(0, &[&vec_of(2, &host)[..], &[0]].concat())],
        vec![extension(16, &[])],
        vec![alpn(&[])],
        vec![alpn(&[b""])],
        vec![extension(16, &vec_of(2, &[3, b'h', b'2']))],
        vec![vec![0, 23, 0]],
        vec![vec![0, 23, 0, 1]],
    ];
    for (extensions, alert) in illegal
        .into_iter()
        .map(|extensions| (extensions, IllegalParameter))
        .chain(broken.into_iter().map(|extensions| (extensions, DecodeError)))
    {
        assert_eq!(alert_of(read_extensions(&extensions)), alert, "{extensions:?}");
    }
}

#[test]
fn a_server_name_of_another_kind_is_ignored() {
    let names = vec_of(2, &[1, 0, 1, 0xff, 0, 0, 1, b'a']);
    assert_eq!(name_of(read_extensions(&[extension(0, &names)])).as_deref(), Some("a"));
}

#[test]
fn malformed_fields_are_no_hello() {
    let good = message(&[]);
    let cut = &good[4..good.len() - 1];
    let bad = [
        message_of(&[9; 33], &CIPHER_SUITES, &[0], &[]),
        message_of(&[], &[], &[0], &[]),
        message_of(&[], &CIPHER_SUITES[..3], &[0], &[]),
        message_of(&[], &CIPHER_SUITES, &[], &[]),
        message_of(&[], &CIPHER_SUITES, &[0], &[0, 0, 0]),
        [&[1][..], &vec_of(3, cut)].concat(),
        vec![1, 0, 0, 0],
    ];
    for message in bad {
        let greeting = read_greeting(&record(&message));
        assert_eq!(alert_of(greeting), DecodeError, "{message:?}");
    }
}

#[test]
fn other_protocols_are_not_tls() {
    let others: [&[u8]; 13] = [
        b"GET / HTTP/1.1\r\n",
        b"S",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        // Something like SSL 2, but of no version that there is.
        b"\x80\x2e\x01\x04\x01\x00\x15",
        b"\xff\xfb\x01\xff\xfb\x03",
        b"\x17\xfe\xfd",
        b"\x14\x03\x09",
        // A TLS alert.
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x47",
        b"\x16\xfe\xff",
        // PostgreSQL's StartupMessage and CancelRequest.
        b"\x00\x00\x00\x54\x00\x03\x00\x00user",
        b"\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02",
        b"\x00\x1c",
    ];
    for bytes in others {
        assert_eq!(read_greeting(bytes), Err(NotTls), "{bytes:?}");
    }
}

#[test]
fn postgres_requests_come_alone() {
    for (last, greeting) in [(0x2f, Greeting::SslRequest), (0x30, Greeting::GssEncRequest)] {
        let request = [0, 0, 0, 8, 4, 0xd2, 0x16, last];
        assert_eq!(read_greeting(&request), Ok(greeting));
        for length in 1..request.len() {
            let part = read_greeting(&request[..length]);
            assert_eq!(part, Ok(Greeting::Incomplete { needed: 8 }));
        }
        let more = read_greeting(&[&request[..], &[22]].concat());
        assert_eq!(more, Err(GreetingError::Hasty));
    }
}

#[test]
fn other_messages_and_records_are_malformed() {
    let hello = message(&[server_name(b"a")]);
    let finished = [20, 0, 0, 0];
    let whole = record(&hello);
    let interrupted = |by: &[u8]| [&record(&hello[..9]), by].concat();
    let bad = [
        (record(&finished), UnexpectedMessage),
        (record(&finished[..1]), UnexpectedMessage),
        (record(&[&hello[..], &finished].concat()), UnexpectedMessage),
        (interrupted(&[23, 3, 3, 0, 1]), UnexpectedMessage),
        (interrupted(&[20, 3, 3, 0, 1, 1]), UnexpectedMessage),
        (interrupted(&[22, 2, 0, 0, 1]), ProtocolVersion),
        (interrupted(&[22, 3, 3, 0x40, 1]), RecordOverflow),
        (vec![22, 3, 1, 0x40, 1], RecordOverflow),
        (vec![20, 3, 3, 0, 1, 1], UnexpectedMessage),
        (vec![23, 3, 1], UnexpectedMessage),
        // SSL 2, as old clients began that spoke newer versions, too.
        (b"\x80\x2e\x01\x03\x01\x00\x15".to_vec(), ProtocolVersion),
        (b"\x80\x2e\x01\x00\x02".to_vec(), ProtocolVersion),
    ];
    for (bytes, alert) in bad {
        assert_eq!(alert_of(read_greeting(&bytes)), alert, "{bytes:?}");
    }
    // Early data, and a record that has nothing to do with it.
    let followed = [&whole[..], &[20, 3, 3, 0, 1, 1, 23, 3, 3, 0xff, 0xff]].concat();
    assert_eq!(read_greeting(&followed), read_greeting(&whole));
}

#[test]
fn a_hello_has_a_size() {
    let hello = |padding: usize| message(&[extension(21, &vec![0; padding])]);
    let rest = hello(0).len();
    // Three records; their headers count.
    let largest = hello(MAX_GREETING - rest - 15);
    let bytes = records(&largest, 12_000);
    assert_eq!(bytes.len(), MAX_GREETING);
    assert_eq!(name_of(read_greeting(&bytes)), None);

    let larger = hello(MAX_GREETING - rest - 14);
    assert_eq!(read_greeting(&records(&larger, 12_000)), Err(TooLarge));
    // The header of the message tells already.
    assert_eq!(read_greeting(&[22, 3, 1, 0x40, 0, 1, 0, 0x7f, 0xf8]), Err(TooLarge));
}

#[test]
fn a_hello_has_few_records() {
    let hello = message(&[server_name(b"a")]);
    let size = hello.len().div_ceil(32);
    assert!(read_greeting(&records(&hello, size)).is_ok());
    assert_eq!(read_greeting(&records(&hello, 1)), Err(TooLarge));

    let with_empty = |count: usize| [record(&[]).repeat(count), record(&hello)].concat();
    assert_eq!(name_of(read_greeting(&with_empty(31))).as_deref(), Some("a"));
    assert_eq!(read_greeting(&with_empty(32)), Err(TooLarge));
}

proptest! {
    #[test]
    fn nothing_panics(bytes in vec(any::<u8>(), 0..2_000)) {
        let starts = [&[][..], &[22, 3, 1], &[22, 3, 1, 0, 99, 1, 0, 0], &[0, 0, 0, 8], &[0x80], &[23]];
        for start in starts {
            let bytes = [start, &bytes].concat();
            if let Ok(Greeting::Incomplete { needed }) = read_greeting(&bytes) {
                prop_assert!((bytes.len() + 1..=MAX_GREETING).contains(&needed));
            }
        }
    }

    #[test]
    fn the_cut_into_records_doesnt_matter(sizes in vec(0..40_usize, 1..32)) {
        let hello = message(&[server_name(b"example.com"), alpn(&[b"h2"])]);
        let mut bytes = Vec::new();
        let mut rest = &hello[..];
        for size in sizes {
            let (payload, left) = rest.split_at(size.min(rest.len()));
            rest = left;
            bytes.extend(record(payload));
            if rest.is_empty() {
                break;
            }
        }
        bytes.extend(rest.chunks(rest.len().max(1)).flat_map(record));
        prop_assert_eq!(read_greeting(&bytes), read_greeting(&record(&hello)));
    }
}
