//! As many sessions of one `l4way run` as its descriptors allow.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::{
    Result,
    l4way::L4way,
    memory::{self, Resident, mebibytes},
    say,
};

/// What the columns of [`measure`] are.
pub(crate) const HEADER: &str = "
Sessions of one l4way run, up to the limit of its descriptors: KiB of its resident memory for each, and of
the machine's, which has both ends of both sockets; and what a million would take of l4way's, if more
were like these (a projection, in MiB).

protocol  sessions  l4way  machine  projected";

/// Where clients find l4way, with either protocol.
const TARGET: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7_000);
/// UDP clients' address: l4way has the ports of the other one.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long an answer may take; none comes once l4way has no room.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many sessions are opened before the descriptors are looked at again.
const STEP: usize = 200;

/// Measures it. This process has to have a network namespace of its own.
pub(crate) fn measure(l4way: &Path) -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    raised.map_err(|error| format!("can't raise the limit of descriptors: {error}"))?;
    let measured = measure_tcp(l4way).and_then(|()| measure_udp(l4way));
    measured.map_err(|error| format!("can't open sessions: {error}"))
}

fn measure_tcp(l4way: &Path) -> io::Result<()> {
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    backend.set_nonblocking(true)?;
    let manifests = manifests("TCP", backend.local_addr()?)?;
    let l4way = L4way::start(l4way, manifests.path()).map_err(io::Error::other)?;
    fill(&l4way, "TCP", 2, || {
        let mut client = TcpStream::connect(TARGET)?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(b"?")?;
        let mut accepted = accept(&backend)?;
        accepted.read_exact(&mut [0])?;
        accepted.write_all(b"!")?;
        client.read_exact(&mut [0])?;
        Ok((client, accepted))
    })
}

fn measure_udp(l4way: &Path) -> io::Result<()> {
    let backend = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    backend.set_read_timeout(Some(PATIENCE))?;
    let manifests = manifests("UDP", backend.local_addr()?)?;
    let l4way = L4way::start(l4way, manifests.path()).map_err(io::Error::other)?;
    fill(&l4way, "UDP", 1, || {
        let client = UdpSocket::bind((CLIENTS, 0))?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.connect(TARGET)?;
        client.send(b"?")?;
        let (_, from) = backend.recv_from(&mut [0])?;
        backend.send_to(b"!", from)?;
        client.recv(&mut [0])?;
        Ok(client)
    })
}

/// Opens sessions, of so many of l4way's descriptors each, until no more fit, and tells what they take.
fn fill<S>(
    l4way: &L4way,
    protocol: &str,
    descriptors_of_one: usize,
    mut open: impl FnMut() -> io::Result<S>,
) -> io::Result<()> {
    let process = l4way.process();
    let look = || -> io::Result<(usize, u64, u64)> {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.count();
        let resident = Resident::of(&process).map_err(io::Error::other)?.now;
        Ok((descriptors, resident, memory::available().map_err(io::Error::other)?))
    };
    // What the first session makes isn't only its own.
    let mut sessions = vec![open()?];
    let before = look()?;
    let mut after = before;
    loop {
        let opened = (0..STEP).try_for_each(|_| open().map(|session| sessions.push(session)));
        if let Err(error) = &opened
            && (!is_late(error) || sessions.len() <= STEP)
        {
            return opened;
        }
        let now = look()?;
        // UDP sessions come in place of the longest idle ones then.
        let is_full = opened.is_err() || now.0 <= after.0;
        after = now;
        if is_full {
            break;
        }
    }
    let count = (after.0 - before.0) / descriptors_of_one;
    let each = |bytes: u64| bytes as f64 / count as f64;
    let l4way = each(after.1.saturating_sub(before.1));
    let machine = each(before.2.saturating_sub(after.2));
    say(&format!(
        "{protocol:>8} {count:>9} {:>6.2} {:>8.2} {:>10}",
        l4way / 1024.0,
        machine / 1024.0,
        mebibytes((l4way * 1e6) as u64),
    ));
    Ok(())
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn accept(backend: &TcpListener) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match backend.accept() {
            Ok((accepted, _)) => {
                accepted.set_nonblocking(false)?;
                return Ok(accepted);
            }
            Err(error) if is_late(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_micros(20));
            }
            Err(error) => return Err(error),
        }
    }
}

/// A Gateway with one listener and one backend.
fn manifests(protocol: &str, backend: SocketAddr) -> io::Result<tempfile::TempDir> {
    let object = |version: &str, kind: String, spec: Value| {
        json!({
            "apiVersion": version, "kind": kind, "metadata": { "name": "sessions" }, "spec": spec,
        })
    };
    let listener = json!({ "name": "all", "protocol": protocol, "port": TARGET.port() });
    let gateway = json!({ "gatewayClassName": "l4way", "listeners": [listener] });
    let route = json!({
        "parentRefs": [{ "name": "sessions" }],
        "rules": [{ "backendRefs": [
            { "group": "l4way.dev", "kind": "Backend", "name": "sessions" },
        ] }],
    });
    let endpoint = json!({ "ip": { "address": backend.ip(), "port": backend.port() } });
    let objects = [
        object("gateway.networking.k8s.io/v1", "Gateway".to_owned(), gateway),
        object("gateway.networking.k8s.io/v1", format!("{protocol}Route"), route),
        object("l4way.dev/v1alpha1", "Backend".to_owned(), json!({ "endpoints": [endpoint] })),
    ];
    let directory = tempfile::tempdir()?;
    // JSON is YAML, too.
    let text: String = objects.iter().map(|object| format!("---\n{object}\n")).collect();
    fs::write(directory.path().join("sessions.yaml"), text)?;
    Ok(directory)
}
