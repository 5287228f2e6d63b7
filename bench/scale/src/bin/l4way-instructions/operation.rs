//! What is counted, and how often it is done for that.

use std::{hint::black_box, io, net::SocketAddr};

use clap::ValueEnum;
use l4way_model::Hostname;
use l4way_proxy_core::{Greeting, Hostnames, WeightedPick, read_greeting};

use crate::{Result, carried::Carried};

/// Something that happens so often that its cost is felt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// A TCP connection: accepted, connected on, one exchange, and closed from both sides
    TcpConnection,
    /// A request and its response on a TCP session
    TcpExchange,
    /// A client's first datagram, with a session of its own, and the reply
    UdpFlow,
    /// A datagram of a UDP session, and the reply
    UdpDatagram,
    /// A ClientHello read, and the route found for its name among 1,000
    ClientHello,
    /// A target picked by weight
    Pick,
}

/// Which threads' instructions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// The first one's.
    Control,
    /// The worker's, which is the second.
    Worker,
}

impl Operation {
    /// The instructions that one may take: at most a tenth more than when this was written.
    pub(crate) fn budget(self) -> u64 {
        match self {
            Self::TcpConnection => 7_650,
            Self::TcpExchange => 2_400,
            Self::UdpFlow => 8_300,
            Self::UdpDatagram => 3_820,
            Self::ClientHello => 2_300,
            Self::Pick => 41,
        }
    }

    /// How often it is done: so often that all of it together is much more than what varies around it.
    pub(crate) fn times(self) -> usize {
        match self {
            Self::TcpConnection | Self::UdpFlow => 300,
            Self::TcpExchange | Self::UdpDatagram | Self::ClientHello => 1_000,
            Self::Pick => 100_000,
        }
    }

    /// Whose instructions are its own, and not those of the clients and endpoints here.
    pub(crate) fn counted(self) -> Counted {
        match self {
            Self::TcpConnection | Self::TcpExchange | Self::UdpFlow | Self::UdpDatagram => {
                Counted::Worker
            }
            Self::ClientHello | Self::Pick => Counted::Control,
        }
    }

    /// Does it so many times.
    pub(crate) fn run(self, times: usize) -> Result<()> {
        match self {
            Self::ClientHello => hellos(times),
            Self::Pick => {
                let mut pick = WeightedPick::new([90, 9, 1], 1);
                for _ in 0..times {
                    black_box(pick.pick());
                }
                Ok(())
            }
            _ => self.carry(times).map_err(|error| format!("a session failed: {error}")),
        }
    }

    fn carry(self, times: usize) -> io::Result<()> {
        let carried = Carried::start()?;
        match self {
            Self::TcpConnection => (0..times).try_for_each(|_| carried.connection(1)),
            Self::TcpExchange => carried.connection(times),
            Self::UdpFlow => (0..times).try_for_each(|_| carried.flow(1)),
            _ => carried.flow(times),
        }
    }
}

/// What rustls begins with, as `make hellos` recorded it.
const HELLO: &[u8] = include_bytes!("../../../../../crates/proxy-core/tests/hellos/rustls.bin");

fn hellos(times: usize) -> Result<()> {
    let others = (0..999).map(|number| format!("app-{number}.example.com"));
    let names = others.chain(["rustls.example".to_owned()]);
    let mut routes =
        Hostnames::new(names.zip(0..).map(|(name, n)| (Some(Hostname::new(&name)), n)));
    for _ in 0..times {
        let Ok(Greeting::ClientHello(hello)) = read_greeting(black_box(HELLO)) else {
            return Err("the recorded hello isn't one".to_owned());
        };
        if routes.get_mut(hello.server_name.as_deref()) != Some(&mut 999) {
            return Err(format!("no route for {:?}", hello.server_name));
        }
    }
    Ok(())
}

/// An address of this host for what is carried, on a port that nobody has.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
