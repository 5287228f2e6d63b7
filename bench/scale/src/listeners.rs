//! `l4way run` with many listeners.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use l4way_scale_bench::{Size, manifests};

use crate::{
    Result,
    memory::{Resident, mebibytes},
    say,
    stats::milliseconds,
};

/// What the columns of [`measure`] are.
pub(crate) const HEADER: &str = "
l4way run with many listeners: MiB resident, and milliseconds until it is ready.
Target for 2,000 listeners: 200 MiB.

gateways  listeners  routes  endpoints  resident  at most    ready";

/// 2,000 listeners: eight of each Gateway.
const SIZE: Size = Size { gateways: 250, routes: 2_500, endpoints: 25_000 };
const LISTENERS: usize = 2_000;
/// Where l4way tells whether it is ready: nobody else is in this network namespace.
const ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9_900);
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures it. This process has to have a network namespace of its own.
pub(crate) fn measure(l4way: &Path) -> Result<()> {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !up.is_ok_and(|status| status.success()) {
        return Err("can't bring lo up with ip".to_owned());
    }
    let directory = tempfile::tempdir().map_err(|error| format!("no place for files: {error}"))?;
    write_manifests(directory.path())?;
    let begin = Instant::now();
    let l4way = L4way::start(l4way, directory.path())?;
    l4way.wait_until_ready(begin + PATIENCE)?;
    let ready = begin.elapsed();
    let listeners = bound_ports("tcp")? + bound_ports("udp")?;
    if listeners != LISTENERS {
        return Err(format!("{listeners} ports are bound, not {LISTENERS}"));
    }
    let Resident { now, peak } = Resident::of(&l4way.0.id().to_string())?;
    let Size { gateways, routes, endpoints } = SIZE;
    say(&format!(
        "{gateways:>8} {listeners:>10} {routes:>7} {endpoints:>10} {:>9} {:>8} {:>8}",
        mebibytes(now),
        mebibytes(peak),
        milliseconds(ready),
    ));
    Ok(())
}

/// Writes the installation's manifests, a file for some of them each.
fn write_manifests(directory: &Path) -> Result<()> {
    let manifests: Vec<_> = manifests(SIZE).collect();
    for (number, chunk) in manifests.chunks(100).enumerate() {
        let path = directory.join(format!("{number}.yaml"));
        fs::write(&path, chunk.concat()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// How many ports of a protocol are bound in this network namespace, l4way's own aside.
fn bound_ports(protocol: &str) -> Result<usize> {
    let path = format!("/proc/net/{protocol}");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let fields = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Each worker has a socket of its own on a port. UDP sockets that aren't connected are in
    // state 7, TCP sockets that listen in state A.
    let waiting = fields.filter(|fields| matches!(fields.get(3), Some(&("07" | "0A"))));
    let ports: BTreeSet<_> = waiting
        .filter_map(|fields| fields.get(1)?.rsplit_once(':'))
        .filter_map(|(_, port)| u16::from_str_radix(port, 16).ok())
        .filter(|port| *port != ADMIN.port())
        .collect();
    Ok(ports.len())
}

/// A running l4way.
struct L4way(Child);

impl L4way {
    fn start(program: &Path, manifests: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("run").arg("-f").arg(manifests).arg("--admin-address").arg(ADMIN.to_string());
        // What it lists is long, and nobody's business here.
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.map(Self).map_err(|error| format!("can't run {}: {error}", program.display()))
    }

    fn wait_until_ready(&self, deadline: Instant) -> Result<()> {
        while !is_ready().unwrap_or(false) {
            if Instant::now() > deadline {
                return Err(format!("l4way wasn't ready within {PATIENCE:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for L4way {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_ready() -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(ADMIN)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: l4way\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
