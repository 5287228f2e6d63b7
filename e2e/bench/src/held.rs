//! Sessions that are used all the time while everything around them changes.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    Result,
    cluster::Kind,
    objects::{Transport, listener, route, rules},
    probe, say,
    stage::Stage,
};

const NAME: &str = "held";
const PORT: u16 = 9000;
const ADDED_PORT: u16 = 9100;

/// How long a session's answer may take. A datagram may be lost: it is sent so many times.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const DATAGRAMS: usize = 3;

/// How often the sessions are used. More often than silence ends a UDP session.
const USED_EVERY: Duration = Duration::from_secs(5);

/// The sessions that were lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lost {
    pub(crate) tcp: usize,
    pub(crate) udp: usize,
}

/// Holds so many TCP connections and UDP flows to an application while a Gateway and its routes are
/// changed in ways that don't concern them, and for `hold` after that.
pub(crate) fn measure(stage: &Stage<'_>, count: usize, hold: Duration) -> Result<Lost> {
    let listeners = [listener("tcp", Transport::Tcp, PORT), listener("udp", Transport::Udp, PORT)];
    stage.gateway(NAME, &listeners)?;
    for (transport, service) in [(Transport::Tcp, "echo"), (Transport::Udp, "udp-echo")] {
        stage.cluster.apply(&route(NAME, transport, NAME, &[(service, 1)]), transport.route())?;
    }
    let served = stage.serves(NAME, PORT)?;
    let to = SocketAddr::new(served.address, PORT);
    probe::udp(to, |answer| answer == "who")?;

    let mut sessions = Sessions::open(to, count)?;
    let switch = |tcp: &[(&str, u32)], udp: &[(&str, u32)], answer: &'static str| {
        for (transport, services) in [(Transport::Tcp, tcp), (Transport::Udp, udp)] {
            stage.cluster.merge(transport.route(), NAME, &json!({ "spec": rules(services) }))?;
        }
        probe::tcp(to, |text| text == answer)?;
        probe::udp(to, |text| text == answer).map(drop)
    };
    switch(&[("other", 1)], &[("udp-other", 1)], "other")?;
    sessions.check("the backends were switched");
    let weights = [("echo", 1), ("other", 9)];
    switch(&weights, &[("udp-echo", 1), ("udp-other", 9)], "who")?;
    sessions.check("weights were changed");
    for service in ["echo", "udp-echo"] {
        stage.cluster.merge(Kind::DEPLOYMENT, service, &json!({ "spec": { "replicas": 2 } }))?;
        stage.wait_available(service, 2)?;
    }
    sessions.check("the applications were scaled");
    let mut more = listeners.to_vec();
    more.push(listener("added", Transport::Tcp, ADDED_PORT));
    stage.gateway(NAME, &more)?;
    let added = SocketAddr::new(served.pod, ADDED_PORT);
    probe::tcp(added, |answer| !answer.is_empty())?;
    sessions.check("a listener was added");
    stage.gateway(NAME, &listeners)?;
    probe::closed(added)?;
    sessions.check("it was removed");
    let labels = json!({ "metadata": { "labels": { "bench": "labelled" } } });
    stage.cluster.merge(Kind::GATEWAY, NAME, &labels)?;
    sessions.check("the Gateway was labelled");

    let end = Instant::now() + hold;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::sleep(left.min(USED_EVERY));
        sessions.check(&format!("{} s after the last change", hold.saturating_sub(left).as_secs()));
    }
    Ok(sessions.lost)
}

/// What is left of the sessions.
struct Sessions {
    connections: Vec<TcpStream>,
    flows: Vec<UdpSocket>,
    lost: Lost,
    uses: usize,
}

impl Sessions {
    /// Opens so many of both, each with a request and its answer.
    fn open(to: SocketAddr, count: usize) -> Result<Self> {
        let told = |error: io::Error| format!("can't open a session with {to}: {error}");
        let connections = (0..count).map(|_| connection(to)).collect::<io::Result<_>>();
        let flows = (0..count).map(|_| flow(to)).collect::<io::Result<_>>();
        let mut sessions = Self {
            connections: connections.map_err(told)?,
            flows: flows.map_err(told)?,
            lost: Lost::default(),
            uses: 0,
        };
        sessions.check("they were opened");
        if sessions.lost.tcp + sessions.lost.udp > 0 {
            return Err(format!("sessions with {to} aren't served to begin with"));
        }
        Ok(sessions)
    }

    /// Uses every session, and counts those that are lost.
    fn check(&mut self, when: &str) {
        self.uses += 1;
        let request = |number: usize| format!("use {} of session {number}\n", self.uses);
        let tcp =
            retain(&mut self.connections, |number, stream| exchange(stream, &request(number)));
        let udp = retain(&mut self.flows, |number, socket| answered(socket, &request(number)));
        self.lost.tcp += tcp;
        self.lost.udp += udp;
        if tcp + udp > 0 {
            say(&format!("lost when {when}: {tcp} connections, {udp} UDP flows"));
        }
    }
}

/// Keeps the sessions that work; how many don't.
fn retain<T>(sessions: &mut Vec<T>, works: impl Fn(usize, &mut T) -> io::Result<()>) -> usize {
    let before = sessions.len();
    let mut number = 0;
    sessions.retain_mut(|session| {
        number += 1;
        works(number, session).inspect_err(|error| say(&format!("a session: {error}"))).is_ok()
    });
    before - sessions.len()
}

fn connection(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    Ok(stream)
}

fn flow(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    Ok(socket)
}

/// Sends a request, and takes it back from the application.
fn exchange(stream: &mut TcpStream, request: &str) -> io::Result<()> {
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; request.len()];
    stream.read_exact(&mut answer)?;
    same(&answer, request)
}

/// The same by UDP. Who answers with anything else is another application.
fn answered(socket: &UdpSocket, request: &str) -> io::Result<()> {
    let mut buffer = [0; 256];
    let mut last = io::Error::from(ErrorKind::TimedOut);
    for _ in 0..DATAGRAMS {
        socket.send(request.as_bytes())?;
        match socket.recv(&mut buffer) {
            Ok(length) => return same(&buffer[..length], request),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn same(answer: &[u8], request: &str) -> io::Result<()> {
    if answer == request.as_bytes() {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(answer);
    Err(io::Error::other(format!("the answer to {request:?} is {answer:?}")))
}
