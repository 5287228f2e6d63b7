//! Steady traffic by TCP and UDP, and what became of it.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often a session is used, and how often a new connection is made.
const EVERY: Duration = Duration::from_millis(20);

/// How long an answer may take. What isn't lost comes, however busy the machine is.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

const REQUEST: &[u8] = b"who\n";

/// Sessions that are used all the time, and connections that are made one after the other.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    sessions: Vec<JoinHandle<Session>>,
    fresh: JoinHandle<Fresh>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// What became of a session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) transport: Transport,
    pub(super) to: SocketAddr,
    /// Whoever answered, from the first on.
    pub(super) first: String,
    pub(super) all: BTreeSet<String>,
    pub(super) answers: usize,
    /// Why requests weren't answered. A connection is at its end with the first.
    pub(super) failures: Vec<String>,
}

/// What became of the connections that were made meanwhile.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pub(super) answered: usize,
    /// When those that failed were begun, and why they failed.
    pub(super) failures: Vec<(Instant, String)>,
}

/// All that became of the traffic.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) sessions: Vec<Session>,
    pub(super) fresh: Fresh,
}

impl Traffic {
    /// Opens so many connections and so many UDP flows, in turn to each of these addresses, and uses
    /// them until [`stop`](Self::stop). New connections go to `fresh`.
    pub(super) fn start(to: &[SocketAddr], count: usize, fresh: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sessions = to.iter().cycle().take(count).flat_map(|&to| {
            [Transport::Tcp, Transport::Udp].map(|transport| Session::open(transport, to))
        });
        let sessions = sessions.map(|(session, client)| {
            let stop = stop.clone();
            thread::spawn(move || session.run(client, &stop))
        });
        let sessions = sessions.collect();
        let ended = stop.clone();
        Self { stop, sessions, fresh: thread::spawn(move || Fresh::default().run(fresh, &ended)) }
    }

    /// Stops it.
    pub(super) fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let sessions = self.sessions.into_iter().map(|session| session.join().expect("a session"));
        let sessions = sessions.collect();
        Outcome { sessions, fresh: self.fresh.join().expect("new connections") }
    }
}

impl Session {
    /// Opens a session, with a request and its answer.
    fn open(transport: Transport, to: SocketAddr) -> (Self, Client) {
        let client = match transport {
            Transport::Tcp => Client::tcp(to),
            Transport::Udp => Client::udp(to),
        };
        let asked = client.and_then(|mut client| Ok((client.ask()?, client)));
        let (first, client) = asked.unwrap_or_else(|error| panic!("{to}/{transport:?}: {error}"));
        let all = BTreeSet::from([first.clone()]);
        (Self { transport, to, first, all, answers: 1, failures: Vec::new() }, client)
    }

    fn run(mut self, mut client: Client, stop: &AtomicBool) -> Self {
        while !stop.load(Ordering::Relaxed) {
            match client.ask() {
                Ok(answer) => {
                    self.answers += 1;
                    self.all.insert(answer);
                }
                Err(error) => self.failures.push(error.to_string()),
            }
            if !self.failures.is_empty() && self.transport == Transport::Tcp {
                break;
            }
            thread::sleep(EVERY);
        }
        self
    }

    /// Whether every request was answered, always by the same.
    pub(super) fn is_whole(&self) -> bool {
        self.failures.is_empty() && self.all.len() == 1
    }
}

impl Fresh {
    fn run(mut self, to: SocketAddr, stop: &AtomicBool) -> Self {
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            match Client::tcp(to).and_then(|mut client| client.ask()) {
                Ok(_) => self.answered += 1,
                Err(error) => self.failures.push((began, error.to_string())),
            }
            thread::sleep(EVERY);
        }
        self
    }
}

impl Outcome {
    /// The sessions that weren't served without a gap.
    pub(super) fn broken(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(|session| !session.is_whole())
    }

    /// How many requests were answered.
    pub(super) fn answers(&self) -> usize {
        self.sessions.iter().map(|session| session.answers).sum::<usize>() + self.fresh.answered
    }

    /// Sees to it that nothing was lost at all.
    pub(super) fn assert_whole(&self) {
        let broken: Vec<_> = self.broken().collect();
        assert!(broken.is_empty(), "sessions were lost: {broken:#?}");
        assert!(self.fresh.failures.is_empty(), "new connections failed: {:#?}", self.fresh);
    }
}

/// One end of a session.
enum Client {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Client {
    fn tcp(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self::Tcp(stream))
    }

    fn udp(to: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self::Udp(socket))
    }

    /// Asks who is there, and returns the answer.
    fn ask(&mut self) -> io::Result<String> {
        let mut buffer = [0; 256];
        let length = match self {
            Self::Tcp(stream) => {
                stream.write_all(REQUEST)?;
                stream.read(&mut buffer)?
            }
            Self::Udp(socket) => {
                socket.send(REQUEST)?;
                socket.recv(&mut buffer)?
            }
        };
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
    }
}
