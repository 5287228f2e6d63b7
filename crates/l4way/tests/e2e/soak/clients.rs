//! Clients of every kind.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use socket2::SockRef;

use super::{
    super::client::{connect, echo},
    Stage,
    files::NAME,
    port,
};

/// What somebody did.
#[derive(Debug, Default)]
pub(super) struct Tally {
    done: u64,
    /// What may happen to them, and did.
    missed: u64,
    faults: Vec<String>,
}

impl Tally {
    fn note(&mut self, what: &str, result: io::Result<()>) {
        match result {
            Ok(()) => self.done += 1,
            Err(error) => self.faults.push(format!("{what}: {error}")),
        }
    }
}

/// Does one thing of its kind, again and again.
pub(super) type Member = Box<dyn FnMut(&Stage<'_>, &mut Tally) + Send>;

/// All but the established, by name.
pub(super) fn crew() -> Vec<(&'static str, Member)> {
    vec![
        ("connections", Box::new(connection)),
        ("more connections", Box::new(connection)),
        ("flows", Box::new(flow)),
        ("requests", Box::new(request)),
        ("TLS sessions", Box::new(tls_session)),
        ("connections to who dies", Box::new(flapping_connection)),
        ("deaths", Box::new(death)),
        ("connections to who passes", Box::new(passing_connection)),
        ("rude clients", Box::new(rude)),
        ("idle crowd", idle_crowd()),
        ("stalled readers", stalled_readers()),
        ("changes of files", Box::new(change)),
        ("looks at metrics", Box::new(look)),
    ]
}

/// Does it until the end, or until it has gone wrong.
pub(super) fn until_the_end(stage: &Stage<'_>, mut member: Member) -> Tally {
    let mut tally = Tally::default();
    while stage.goes_on() && tally.faults.is_empty() {
        member(stage, &mut tally);
    }
    tally
}

/// What all of them did, for a person, and what went wrong.
pub(super) fn sum(tallies: &[(&str, Tally)]) -> (String, Vec<String>) {
    let mut report = String::new();
    for (name, Tally { done, missed, faults }) in tallies {
        let _ = writeln!(report, "{done:>9} {name} ({missed} missed, {} faults)", faults.len());
    }
    let faults = tallies
        .iter()
        .flat_map(|(name, tally)| tally.faults.iter().map(move |fault| format!("{name}: {fault}")));
    (report, faults.collect())
}

/// One that nobody may make wait, or fail.
fn connection(stage: &Stage<'_>, tally: &mut Tally) {
    let ask = || {
        let mut stream = connect(stage.at(port::MIXED))?;
        echo(&mut stream, b"one of many")?;
        // So that no port waits for its last packets (TIME_WAIT) on this side.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    };
    tally.note("a session to endpoints of which one lives", ask());
    stage.pause(Duration::from_millis(2));
}

fn flapping_connection(stage: &Stage<'_>, tally: &mut Tally) {
    match connect(stage.at(port::FLAPPING)).and_then(|mut stream| echo(&mut stream, b"one")) {
        Ok(()) => tally.done += 1,
        // It was in the queue of who died.
        Err(_) => tally.missed += 1,
    }
    stage.pause(Duration::from_millis(5));
}

fn passing_connection(stage: &Stage<'_>, tally: &mut Tally) {
    match connect(stage.at(port::PASSING)).and_then(|mut stream| echo(&mut stream, b"one")) {
        Ok(()) => tally.done += 1,
        Err(_) => tally.missed += 1,
    }
    stage.pause(Duration::from_millis(20));
}

/// The endpoint that dies lives for a while.
fn death(stage: &Stage<'_>, tally: &mut Tally) {
    {
        let listener = TcpListener::bind(stage.backends.flapping).expect("its port");
        listener.set_nonblocking(true).expect("an option");
        let until = Instant::now() + Duration::from_millis(1_700);
        while stage.goes_on() && Instant::now() < until {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let _ = stream.set_nonblocking(false);
                    thread::spawn(move || {
                        let Ok(mut to) = stream.try_clone() else { return };
                        let _ = io::copy(&mut stream, &mut to);
                    });
                }
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }
    tally.done += 1;
    stage.pause(Duration::from_millis(900));
}

/// A flow that has to be answered, however often one has to ask: once for the endpoint where nobody
/// is, and a few times for what a busy machine drops.
fn flow(stage: &Stage<'_>, tally: &mut Tally) {
    let ask = || {
        let socket = UdpSocket::bind((stage.address, 0))?;
        socket.connect(stage.at(port::MIXED_UDP))?;
        converse(&socket, b"one of many flows")
    };
    tally.note("a flow to endpoints of which one lives", ask());
    stage.pause(Duration::from_millis(10));
}

fn converse(socket: &UdpSocket, message: &[u8]) -> io::Result<()> {
    let mut answer = [0; 64];
    for patience in [100, 200, 400, 800, 5_000, 5_000] {
        socket.set_read_timeout(Some(Duration::from_millis(patience)))?;
        // An earlier one may have come back as an error.
        let _ = socket.send(message);
        if matches!(socket.recv(&mut answer), Ok(length) if &answer[..length] == message) {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
}

fn request(stage: &Stage<'_>, tally: &mut Tally) {
    let ask = || {
        let mut client = HttpClient::new(stage)?;
        client.ask("/a")?;
        client.ask("/b")
    };
    tally.note("two requests", ask());
    stage.pause(Duration::from_millis(20));
}

fn tls_session(stage: &Stage<'_>, tally: &mut Tally) {
    let ask = || {
        let mut stream = tls(stage)?;
        converse_by_stream(&mut stream, b"one of many sessions")
    };
    tally.note("a TLS session", ask());
    stage.pause(Duration::from_millis(50));
}

/// Says something that isn't right, or goes when one doesn't.
fn rude(stage: &Stage<'_>, tally: &mut Tally) {
    let kind = tally.done % 5;
    let port = [port::TLS, port::TLS, port::HTTP, port::MIXED, port::STEADY][kind as usize];
    let Ok(mut stream) = connect(stage.at(port)) else {
        tally.missed += 1;
        return;
    };
    let hello: &[u8] = match kind {
        0 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        1 => b"GET / HTTP/1.0\r\n\r\n",
        2 => b"\x16\x03\x01 \x00\r\n\r\nGET",
        3 => b"",
        _ => b"half",
    };
    let _ = stream.write_all(hello);
    if kind.is_multiple_of(2) {
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    } else {
        let _ = stream.shutdown(Shutdown::Write);
    }
    tally.done += 1;
    stage.pause(Duration::from_millis(20));
}

/// Many who say nothing, of whom one after the other is replaced.
fn idle_crowd() -> Member {
    let mut crowd = VecDeque::new();
    Box::new(move |stage, tally| {
        let ports = [port::STEADY, port::TLS, port::HTTP];
        if crowd.len() == 200 {
            crowd.pop_front();
        }
        let next = connect(stage.at(ports[tally.done as usize % ports.len()]));
        tally.note("an idle connection", next.map(|stream| crowd.push_back(stream)));
        let time = if crowd.len() < 200 { 1 } else { 100 };
        stage.pause(Duration::from_millis(time));
    })
}

/// Those who ask for much, and read nothing of it.
fn stalled_readers() -> Member {
    let mut readers = VecDeque::new();
    Box::new(move |stage, tally| {
        if readers.len() == 60 {
            readers.pop_front();
        }
        let ask = || {
            if tally.done.is_multiple_of(2) {
                return connect(stage.at(port::BULK));
            }
            let mut stream = connect(stage.at(port::HTTP))?;
            stream.write_all(b"GET /bulk HTTP/1.1\r\nHost: soak\r\n\r\n")?;
            Ok(stream)
        };
        let next = ask();
        tally.note("a stalled reader", next.map(|stream| readers.push_back(stream)));
        stage.pause(Duration::from_millis(200));
    })
}

fn change(stage: &Stage<'_>, tally: &mut Tally) {
    stage.files.change(stage.backends);
    if tally.done % 7 == 3 {
        stage.l4way.signal(Signal::HUP);
    }
    tally.done += 1;
    stage.pause(Duration::from_millis(900));
    if !stage.goes_on() {
        stage.files.put_back();
    }
}

fn look(stage: &Stage<'_>, tally: &mut Tally) {
    for path in ["/metrics", "/healthz"] {
        let (code, body) = stage.l4way.get(path);
        let good = if code == 200 { Ok(()) } else { Err(io::Error::other(body)) };
        tally.note(path, good);
    }
    stage.pause(Duration::from_millis(500));
}

/// Clients who stay to the end, and whom nothing may touch.
pub(super) struct Established {
    tcp: Vec<TcpStream>,
    away: Vec<TcpStream>,
    tls: Vec<StreamOwned<ClientConnection, TcpStream>>,
    udp: Vec<UdpSocket>,
    http: HttpClient,
}

impl Established {
    pub(super) fn open(stage: &Stage<'_>) -> Self {
        let tcp = |port| {
            let connect = |_| connect(stage.at(port)).expect("a connection");
            (0..10).map(connect).collect()
        };
        let flow = |_| {
            let socket = UdpSocket::bind((stage.address, 0)).expect("a port");
            socket.connect(stage.at(port::STEADY_UDP)).expect("an address");
            socket
        };
        let mut all = Self {
            tcp: tcp(port::STEADY),
            away: tcp(port::AWAY),
            tls: (0..5).map(|_| tls(stage).expect("a TLS session")).collect(),
            udp: (0..5).map(flow).collect(),
            http: HttpClient::new(stage).expect("a connection"),
        };
        let mut tally = Tally::default();
        all.round(&mut tally);
        assert!(tally.faults.is_empty(), "{:?}", tally.faults);
        all
    }

    /// Uses all of them until the others have gone.
    pub(super) fn live(mut self, stage: &Stage<'_>) -> Tally {
        let mut tally = Tally::default();
        loop {
            let last = stage.others_gone.load(Ordering::Relaxed);
            self.round(&mut tally);
            if last || !tally.faults.is_empty() {
                return tally;
            }
            thread::sleep(Duration::from_millis(300));
        }
    }

    fn round(&mut self, tally: &mut Tally) {
        for stream in &mut self.tcp {
            tally.note("an established connection", echo(stream, b"still here"));
        }
        for stream in &mut self.away {
            tally.note("one of a listener that was away", echo(stream, b"still here"));
        }
        for stream in &mut self.tls {
            tally.note("an established TLS session", converse_by_stream(stream, b"still here"));
        }
        for socket in &self.udp {
            tally.note("an established flow", converse(socket, b"still here"));
        }
        tally.note("an established HTTP connection", self.http.ask("/still/here"));
    }
}

/// An HTTP/1.1 connection that stays.
struct HttpClient(BufReader<TcpStream>);

impl HttpClient {
    fn new(stage: &Stage<'_>) -> io::Result<Self> {
        connect(stage.at(port::HTTP)).map(BufReader::new).map(Self)
    }

    /// Asks for a path, which comes back.
    fn ask(&mut self, path: &str) -> io::Result<()> {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: soak\r\n\r\n")?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut body = vec![0; path.len()];
        self.0.read_exact(&mut body)?;
        if head.starts_with("HTTP/1.1 200 ") && body == path.as_bytes() {
            Ok(())
        } else {
            Err(io::Error::other(head))
        }
    }
}

fn tls(stage: &Stage<'_>) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(stage.files.authority.pem.as_bytes());
    roots.add(authority.expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = NAME.try_into().expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(session, connect(stage.at(port::TLS))?))
}

fn converse_by_stream(stream: &mut (impl Read + Write), message: &[u8]) -> io::Result<()> {
    stream.write_all(message)?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer)?;
    if answer == message { Ok(()) } else { Err(io::Error::other("the echo differs")) }
}
