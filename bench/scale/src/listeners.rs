//! `l4way run` with many listeners.

use std::{collections::BTreeSet, fs, path::Path, time::Instant};

use l4way_scale_bench::{Size, manifests};

use crate::{
    Result,
    l4way::{ADMIN, L4way},
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

/// Measures it. This process has to have a network namespace of its own.
pub(crate) fn measure(l4way: &Path) -> Result<()> {
    let directory = tempfile::tempdir().map_err(|error| format!("no place for files: {error}"))?;
    write_manifests(directory.path())?;
    let begin = Instant::now();
    let l4way = L4way::start(l4way, directory.path())?;
    let ready = begin.elapsed();
    let listeners = bound_ports("tcp")? + bound_ports("udp")?;
    if listeners != LISTENERS {
        return Err(format!("{listeners} ports are bound, not {LISTENERS}"));
    }
    let Resident { now, peak } = Resident::of(&l4way.process())?;
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
