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
    time::{Duration, Instant, SystemTime},
};

/// How often a session is used, and how often a new connection is made.
const EVERY: Duration = Duration::from_millis(20);

/// How long an answer may take. What isn't lost comes, however busy the machine is.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a flow waits for an answer before it asks again. An answer that comes later isn't lost.
const ASK_AGAIN: Duration = Duration::from_millis(500);

const REQUEST: &[u8] = b"who\n";

/// Sessions that are used all the time, and connections and flows that are made one after the other.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    sessions: Vec<JoinHandle<Session>>,
    fresh: JoinHandle<Fresh>,
    flows: JoinHandle<Fresh>,
    from: Vec<(Transport, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// What became of a session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) transport: Transport,
    pub(crate) to: SocketAddr,
    /// The client's port.
    pub(crate) from: u16,
    /// Whoever answered, from the first on.
    pub(crate) first: String,
    pub(crate) all: BTreeSet<String>,
    pub(crate) answers: usize,
    /// When requests weren't answered, and why. A connection is at its end with the first.
    pub(crate) failures: Vec<(SystemTime, String)>,
}

/// What became of the connections, or of the flows, that were made meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    pub(crate) answered: usize,
    /// When those that failed were begun, and why they failed.
    pub(crate) failures: Vec<(Instant, String)>,
}

/// All that became of the traffic.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sessions: Vec<Session>,
    pub(crate) fresh: Fresh,
    /// New flows of one datagram.
    pub(crate) flows: Fresh,
}

impl Traffic {
    /// Opens so many connections and so many UDP flows, in turn to each of these addresses, and uses
    /// them until [`stop`](Self::stop). New connections and flows go to `fresh`.
    pub(crate) fn start(to: &[SocketAddr], count: usize, fresh: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sessions = to.iter().cycle().take(count).flat_map(|&to| {
            [Transport::Tcp, Transport::Udp].map(|transport| Session::open(transport, to))
        });
        let mut from = Vec::new();
        let sessions = sessions.map(|(session, client)| {
            from.push((session.transport, session.from));
            let stop = stop.clone();
            thread::spawn(move || session.run(client, &stop))
        });
        let sessions = sessions.collect();
        let [fresh, flows] = [Transport::Tcp, Transport::Udp].map(|transport| {
            let stop = stop.clone();
            thread::spawn(move || Fresh::default().run(transport, fresh, &stop))
        });
        Self { stop, sessions, fresh, flows, from }
    }

    /// The clients' ports.
    pub(crate) fn from(&self) -> &[(Transport, u16)] {
        &self.from
    }

    /// Stops it.
    pub(crate) fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let sessions = self.sessions.into_iter().map(|session| session.join().expect("a session"));
        let sessions = sessions.collect();
        let [fresh, flows] =
            [self.fresh, self.flows].map(|fresh| fresh.join().expect("new sessions"));
        Outcome { sessions, fresh, flows }
    }
}

impl Session {
    /// Opens a session, with a request and its answer.
    fn open(transport: Transport, to: SocketAddr) -> (Self, Client) {
        let asked = Client::new(transport, to).and_then(|mut client| Ok((client.ask()?, client)));
        let (first, client) = asked.unwrap_or_else(|error| panic!("{to}/{transport:?}: {error}"));
        let all = BTreeSet::from([first.clone()]);
        let from = client.port();
        (Self { transport, to, from, first, all, answers: 1, failures: Vec::new() }, client)
    }

    fn run(mut self, mut client: Client, stop: &AtomicBool) -> Self {
        client.wait_for_answers(match self.transport {
            Transport::Tcp => ANSWER_WITHIN,
            Transport::Udp => ASK_AGAIN,
        });
        while !stop.load(Ordering::Relaxed) {
            match client.ask() {
                Ok(answer) => {
                    self.answers += 1;
                    self.all.insert(answer);
                }
                Err(error) => self.failures.push((SystemTime::now(), error.to_string())),
            }
            if !self.failures.is_empty() && self.transport == Transport::Tcp {
                break;
            }
            thread::sleep(EVERY);
        }
        // Late answers, of which nobody can tell whose they are.
        while self.transport == Transport::Udp && !self.failures.is_empty() && client.hear().is_ok()
        {
            self.failures.remove(0);
        }
        self
    }

    /// Whether every request was answered, always by the same.
    pub(crate) fn is_whole(&self) -> bool {
        self.failures.is_empty() && self.all.len() == 1
    }
}

impl Fresh {
    fn run(mut self, transport: Transport, to: SocketAddr, stop: &AtomicBool) -> Self {
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            match Client::new(transport, to).and_then(|mut client| client.ask()) {
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
    pub(crate) fn broken(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(|session| !session.is_whole())
    }

    /// How many requests were answered.
    pub(crate) fn answers(&self) -> usize {
        self.sessions.iter().map(|session| session.answers).sum::<usize>() + self.fresh.answered
    }

    /// Sees to it that nothing was lost at all.
    pub(crate) fn assert_whole(&self) {
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
    fn new(transport: Transport, to: SocketAddr) -> io::Result<Self> {
        let client = match transport {
            Transport::Tcp => Self::Tcp(TcpStream::connect_timeout(&to, ANSWER_WITHIN)?),
            Transport::Udp => {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(to)?;
                Self::Udp(socket)
            }
        };
        client.wait_for_answers(ANSWER_WITHIN);
        Ok(client)
    }

    fn wait_for_answers(&self, within: Duration) {
        let set = match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(within)),
            Self::Udp(socket) => socket.set_read_timeout(Some(within)),
        };
        set.expect("a timeout");
    }

    fn port(&self) -> u16 {
        let address = match self {
            Self::Tcp(stream) => stream.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        };
        address.expect("its address").port()
    }

    /// Asks who is there, and returns the answer.
    fn ask(&mut self) -> io::Result<String> {
        match self {
            Self::Tcp(stream) => stream.write_all(REQUEST)?,
            Self::Udp(socket) => {
                socket.send(REQUEST)?;
            }
        }
        self.hear()
    }

    fn hear(&mut self) -> io::Result<String> {
        let mut buffer = [0; 256];
        let length = match self {
            Self::Tcp(stream) => stream.read(&mut buffer)?,
            Self::Udp(socket) => socket.recv(&mut buffer)?,
        };
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
    }
}
