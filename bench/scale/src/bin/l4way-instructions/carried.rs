//! Sessions through a proxy with one worker, one step at a time, so that each time the same is done.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    num::NonZeroUsize,
    sync::Arc,
};

use l4way_model::{
    BackendId, Config, EndpointTable, GatewayId, Listener, ListenerId, ListenerReport, Route,
    RouteId, Target, Transport, WeightedTarget,
};
use l4way_proxy::{Proxy, ProxySettings};

use crate::operation::local;

/// The ports that are listened on, and those of the endpoints: others' are in another network
/// namespace.
const TCP: u16 = 10_000;
const UDP: u16 = 10_001;
const TCP_ENDPOINT: u16 = 11_000;
const UDP_ENDPOINT: u16 = 11_001;

/// What a client sends, and an endpoint answers.
const MESSAGE: [u8; 64] = [b'x'; 64];

/// A proxy that carries a TCP and a UDP listener, and what these lead to.
pub(crate) struct Carried {
    _proxy: Proxy,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Carried {
    pub(crate) fn start() -> io::Result<Self> {
        let tcp = TcpListener::bind(local(TCP_ENDPOINT))?;
        let udp = UdpSocket::bind(local(UDP_ENDPOINT))?;
        let settings = ProxySettings { workers: NonZeroUsize::MIN, ..ProxySettings::default() };
        let mut proxy = Proxy::start(settings)?;
        let listeners = [listener(Transport::Tcp, TCP), listener(Transport::Udp, UDP)];
        let config = Config::new(listeners).map_err(io::Error::other)?;
        let rows = [(Transport::Tcp, TCP_ENDPOINT), (Transport::Udp, UDP_ENDPOINT)]
            .map(|(transport, port)| (backend(transport), [local(port).into()].into()));
        let report = proxy.apply(Arc::new(config), &EndpointTable(rows.into()));
        proxy.settle();
        if report.listeners.values().any(|report| *report != ListenerReport::Bound) {
            return Err(io::Error::other(format!("not all listeners are bound: {report:?}")));
        }
        Ok(Self { _proxy: proxy, tcp, udp })
    }

    /// A TCP connection with so many exchanges.
    pub(crate) fn connection(&self, exchanges: usize) -> io::Result<()> {
        let mut client = TcpStream::connect(local(TCP))?;
        client.write_all(&MESSAGE)?;
        let (mut endpoint, _) = self.tcp.accept()?;
        let mut message = MESSAGE;
        for nth in 0..exchanges {
            if nth > 0 {
                client.write_all(&MESSAGE)?;
            }
            endpoint.read_exact(&mut message)?;
            endpoint.write_all(&message)?;
            client.read_exact(&mut message)?;
        }
        // Each side sees that the other has ended, so nothing of it is left for later.
        client.shutdown(Shutdown::Write)?;
        ended(&mut endpoint)?;
        drop(endpoint);
        ended(&mut client)
    }

    /// The datagrams of a new client, each of them answered.
    pub(crate) fn flow(&self, datagrams: usize) -> io::Result<()> {
        let client = UdpSocket::bind(local(0))?;
        client.connect(local(UDP))?;
        let mut message = MESSAGE;
        for _ in 0..datagrams {
            client.send(&message)?;
            let (length, from) = self.udp.recv_from(&mut message)?;
            self.udp.send_to(&message[..length], from)?;
            client.recv(&mut message)?;
        }
        Ok(())
    }
}

fn ended(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 1])? {
        0 => Ok(()),
        _ => Err(io::Error::other("bytes that nobody has sent")),
    }
}

fn backend(transport: Transport) -> BackendId {
    BackendId {
        kind: "Service".into(),
        namespace: "default".into(),
        name: "echo".into(),
        port: Some(80),
        transport,
    }
}

fn listener(transport: Transport, port: u16) -> Listener {
    let gateway = GatewayId::new("default", "gateway");
    let target = Target::Backend(backend(transport));
    let route = Route {
        id: RouteId {
            kind: format!("{transport}Route").into(),
            namespace: "default".into(),
            name: "echo".into(),
        },
        targets: vec![WeightedTarget { weight: 1, target }],
    };
    Listener {
        id: ListenerId { gateway, listener_set: None, name: transport.to_string().into() },
        transport,
        addresses: vec![local(port).ip()],
        port,
        route: Some(route),
    }
}
