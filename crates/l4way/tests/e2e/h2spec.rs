//! HTTP/2 as h2spec has it (<https://github.com/summerwind/h2spec>), with and without TLS.
//!
//! `h2spec.expected` lists the tests that fail or are skipped, each with its reason. It may only shrink: a test
//! that passes has to leave the list.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use super::{
    l4way::{own_address, project},
    tls::{authority::Authority, setting::Setting},
};

/// How many tests h2spec 2.2.1 has.
const TESTS: usize = 146;
/// How many lines the list has at most: it follows when one is removed.
const EXPECTED: usize = 1;

/// Whether these bytes are a whole request. Its body has a length, chunks that end with an empty one, or isn't there.
fn is_whole(came: &[u8]) -> bool {
    let text = String::from_utf8_lossy(came).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    match value("content-length: ") {
        Some(length) => body.len() >= length.parse().expect("a number"),
        None if value("transfer-encoding: ").is_some() => {
            (body.starts_with("0\r\n") || body.contains("\r\n0\r\n")) && body.ends_with("\r\n\r\n")
        }
        None => true,
    }
}

/// An endpoint whose answers have as many bytes as flow control is tested with; its address. It answers whole
/// requests: what is wrong at the end of one is found before it has been answered.
fn endpoint(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    let bound = listener.local_addr().expect("an address");
    let serve = |mut stream: TcpStream| -> std::io::Result<()> {
        let mut came = Vec::new();
        let mut chunk = [0; 16 << 10];
        while !is_whole(&came) {
            match stream.read(&mut chunk)? {
                0 => return Ok(()),
                read => came.extend_from_slice(&chunk[..read]),
            }
        }
        let body = [b'x'; 1_000];
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        )?;
        stream.write_all(&body)
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    bound
}

/// What became of the tests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    run: usize,
    /// Those that failed or were skipped, by section and title.
    others: BTreeSet<String>,
}

impl Outcome {
    /// Reads a report in the form of JUnit: `<testcase package="http2/5.1" classname="Title" …>`.
    fn read(report: &str) -> Self {
        let mut outcome = Self::default();
        for case in report.split("<testcase ").skip(1) {
            let attribute = |name: &str| {
                let (_, rest) = case.split_once(&format!("{name}=\"")).expect("an attribute");
                let (value, _) = rest.split_once('"').expect("its end");
                value.replace("&#39;", "'").replace("&#34;", "\"")
            };
            outcome.run += 1;
            if ["<failure>", "<error>", "<skipped>"].iter().any(|other| case.contains(other)) {
                let (section, title) = (attribute("package"), attribute("classname"));
                outcome.others.insert(format!("{section} {title}"));
            }
        }
        outcome
    }
}

fn h2spec(args: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.xml");
    let output = Command::new(project("scripts/go"))
        .arg("-C")
        .arg(project("e2e/h2spec"))
        .args(["tool", "h2spec", "--strict", "--timeout", "5", "--junit-report"])
        .arg(&report)
        .args(args)
        .output()
        .expect("scripts/go");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}{failed}");
    Outcome::read(&fs::read_to_string(report).expect("h2spec's report"))
}

/// The tests that are expected to fail or to be skipped, each behind the listener that it is about.
fn expected() -> BTreeSet<String> {
    let path = project("crates/l4way/tests/e2e/h2spec.expected");
    let text = fs::read_to_string(path).expect("h2spec.expected");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let test = |line: &str| {
        let (test, reason) = line.split_once(": ").expect("a test, a colon, and the reason");
        assert!(reason.len() > 10, "no reason for {test}");
        test.to_owned()
    };
    lines.map(test).collect()
}

#[test]
fn h2spec_finds_what_is_expected() {
    let address = own_address();
    let authority = Authority::new("ours");
    let endpoint = endpoint(address);
    let running = Setting::default()
        .secret("web", &authority.sign("web.test"))
        .listener("name: plain, protocol: HTTP, port: 80")
        .route("HTTPRoute", "plain", "", endpoint)
        .listener("name: tls, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: web}]}")
        .route("HTTPRoute", "tls", "", endpoint)
        .run(&[]);
    let expected = expected();
    assert!(expected.len() <= EXPECTED, "the list may only shrink: {expected:#?}");
    let ip = running.ip.to_string();
    let found = [("plain", &["-p", "80"][..]), ("tls", &["-p", "443", "--tls", "--insecure"])];
    let found = found.into_iter().flat_map(|(listener, args)| {
        let Outcome { run, others } = h2spec(&[&["-h", &ip], args].concat());
        assert_eq!(run, TESTS, "{listener}");
        others.into_iter().map(move |test| format!("{listener} {test}"))
    });
    let found: BTreeSet<_> = found.collect();
    assert_eq!(found, expected, "left what h2spec found, right h2spec.expected");
}
