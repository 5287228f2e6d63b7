use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use l4way_model::Transport;
use tokio::runtime::Handle;

use super::{container::Echo, server::Server};

/// How many addresses a replica tries: 127.64.0.1 to 127.64.16.0.
const ADDRESSES: u32 = 4_096;

/// One replica: an address and its servers.
#[derive(Debug)]
pub(super) struct Pod {
    address: Ipv4Addr,
    servers: BTreeMap<(Transport, u16), Server>,
}

impl Pod {
    /// Starts a replica on the first address whose ports are free, and which isn't one of `taken`.
    ///
    /// # Errors
    /// Why there is none, for a person.
    pub(super) fn start(
        echoes: &[Echo],
        taken: &BTreeSet<Ipv4Addr>,
        runtime: &Handle,
    ) -> Result<Self, String> {
        let first = u32::from(Ipv4Addr::new(127, 64, 0, 1));
        let addresses = (first..first + ADDRESSES).map(Ipv4Addr::from);
        for address in addresses.filter(|address| !taken.contains(address)) {
            let mut pod = Self { address, servers: BTreeMap::new() };
            match pod.update(echoes, runtime) {
                Ok(()) => return Ok(pod),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(format!("no demo backend on {address}: {error}")),
            }
        }
        Err(format!(
            "no demo backend: each of {ADDRESSES} loopback addresses has one of its ports taken"
        ))
    }

    /// Listens as `echoes` say. What listens already goes on, with another reply for new
    /// connections if that changed.
    ///
    /// # Errors
    /// If a port can't be bound, of type [`io::ErrorKind::AddrInUse`] if another process has it.
    pub(super) fn update(&mut self, echoes: &[Echo], runtime: &Handle) -> io::Result<()> {
        self.servers.retain(|socket, _| echoes.iter().any(|echo| echo.socket() == *socket));
        for echo in echoes {
            match self.servers.get(&echo.socket()) {
                Some(server) => server.set_reply(echo.reply.clone()),
                None => {
                    let server = self.bind(echo, runtime)?;
                    self.servers.insert(echo.socket(), server);
                }
            }
        }
        Ok(())
    }

    /// Starts a server on the echo's port, or on any if that one is for root only.
    fn bind(&self, echo: &Echo, runtime: &Handle) -> io::Result<Server> {
        let start = |port| {
            let bind = SocketAddr::V4(SocketAddrV4::new(self.address, port));
            Server::start(echo.transport, bind, echo.reply.clone(), runtime)
        };
        start(echo.port).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => start(0),
            _ => Err(error),
        })
    }

    /// The replica's own address.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The port to connect to in order to reach the pod's `port`. They differ where the pod's is
    /// for root only.
    pub(super) fn bound_port(&self, transport: Transport, port: u16) -> u16 {
        self.servers.get(&(transport, port)).map_or(port, Server::port)
    }
}
