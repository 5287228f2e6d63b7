//! Three hosts on one machine: network namespaces joined by veth.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    ops::RangeInclusive,
    os::fd::AsFd,
    process::{Command, id},
    sync::atomic::{AtomicU16, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;

/// The gateway's address that clients connect to.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The backends' address, which the gateway connects to.
pub(crate) const BACKENDS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The port of plain TCP and UDP, where the client speaks first, of gateways and backends.
pub(crate) const PORT: u16 = 7000;
/// The port where a backend speaks first over TCP, and where a UDP session ends soon.
pub(crate) const FIRST_PORT: u16 = 7001;
/// The ports that connections begin at.
pub(crate) const EPHEMERAL_PORTS: RangeInclusive<u16> = 10_000..=65_535;
/// The addresses of clients that never send twice from the same port, 192.0.2.128/28.
pub(crate) const FLOW_CLIENTS: RangeInclusive<Ipv4Addr> =
    Ipv4Addr::new(192, 0, 2, 128)..=Ipv4Addr::new(192, 0, 2, 143);

/// Where clients, a gateway and backends are. Each peer has a network of its own, so that none finds
/// what another left, such as ports in TIME_WAIT.
pub(crate) struct Network {
    pub(crate) clients: Namespace,
    pub(crate) gateway: Namespace,
    pub(crate) backends: Namespace,
}

impl Network {
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let prefix = format!("l4way-bench-{}-{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let namespace = |role| Namespace::new(format!("{prefix}-{role}"));
        let network = Self {
            clients: namespace("clients")?,
            gateway: namespace("gateway")?,
            backends: namespace("backends")?,
        };
        join((&network.clients, "192.0.2.1/24"), (&network.gateway, "192.0.2.2/24"))?;
        join((&network.gateway, "198.51.100.1/24"), (&network.backends, "198.51.100.2/24"))?;
        network.clients.route(&["198.51.100.0/24", "via", "192.0.2.2"])?;
        network.clients.route(&["local", "192.0.2.128/28", "dev", "lo"])?;
        network.backends.route(&["192.0.2.0/24", "via", "198.51.100.1"])?;
        Ok(network)
    }
}

/// A network namespace, which goes when it is dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: String) -> Result<Self> {
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        // Who closes first holds the connection's port for a minute: lets a new connection take it.
        namespace.set("ipv4/tcp_tw_reuse", "1")?;
        // Linux's default, whatever this machine has: BBR's pacing alone halves bulk throughput. Where a
        // namespace may not choose it (tcp_allowed_congestion_control), the one that all may is as good.
        let choose = |name| namespace.set("ipv4/tcp_congestion_control", name);
        choose("cubic").or_else(|_| choose("reno"))?;
        let ports = format!("{} {}", EPHEMERAL_PORTS.start(), EPHEMERAL_PORTS.end());
        namespace.set("ipv4/ip_local_port_range", &ports)?;
        Ok(namespace)
    }

    /// Sets what `/proc/sys/net` has by that name.
    pub(crate) fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        let set = || fs::write(&path, value).map_err(|error| format!("{path}: {error}"));
        self.run(set)?
    }

    fn route(&self, route: &[&str]) -> Result<()> {
        ip(&[&["-n", &self.name, "route", "add"], route].concat())
    }

    /// Moves the calling thread here: its sockets and the processes it starts are here from now on.
    pub(crate) fn enter(&self) -> Result<()> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| format!("{path} can't be entered: {error}"))
    }

    /// What `work` gives when it is done here.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let here = scope.spawn(|| self.enter().map(|()| work()));
            here.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Joins two hosts by a cable, and gives each end its address.
fn join(near: (&Namespace, &str), far: (&Namespace, &str)) -> Result<()> {
    let links = ["to-far", "to-near"];
    let [near_link, far_link] = links;
    let (near_name, far_name) = (&near.0.name, &far.0.name);
    ip(&[
        "link", "add", near_link, "netns", near_name, "type", "veth", "peer", "name", far_link,
        "netns", far_name,
    ])?;
    for ((namespace, address), link) in [near, far].into_iter().zip(links) {
        ip(&["-n", &namespace.name, "addr", "add", address, "dev", link])?;
        ip(&["-n", &namespace.name, "link", "set", link, "up"])?;
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<()> {
    let what = || format!("ip {}", args.join(" "));
    let output =
        Command::new("ip").args(args).output().map_err(|error| format!("{}: {error}", what()))?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {} (network namespaces need root)", what(), error.trim()))
}
