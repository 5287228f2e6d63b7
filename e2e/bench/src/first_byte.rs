//! How long a new Gateway takes until it serves.

use std::{net::SocketAddr, time::Instant};

use crate::{
    Result,
    cluster::Kind,
    objects::{Transport, listener, route},
    probe,
    stage::Stage,
    stats::Stats,
};

/// Each Gateway has a port of its own, from here on: its address may have been another's before it.
const FIRST_PORT: u16 = 9000;

/// From the request that makes a Gateway, and after it its route, to the first byte of an answer.
pub(crate) fn measure(stage: &Stage<'_>, count: usize) -> Result<Stats> {
    let durations = (FIRST_PORT..).take(count).map(|port| {
        let name = format!("first-{port}");
        let began = Instant::now();
        stage.gateway(&name, &[listener("tcp", Transport::Tcp, port)])?;
        stage.cluster.apply(&route(&name, Transport::Tcp, &name, &[("a", 1)]), Kind::TCP_ROUTE)?;
        let address = stage.address(&name)?;
        let answered = probe::opened(SocketAddr::new(address, port), "a")?;
        // The next one has no neighbours.
        stage.cluster.delete(Kind::GATEWAY, &name)?;
        stage.cluster.delete(Kind::TCP_ROUTE, &name)?;
        stage.cluster.wait(Kind::SERVICE, &format!("{name}-l4way"), |service| service.is_none())?;
        Ok(answered.at - began)
    });
    durations.collect::<Result<_>>().map(Stats::new)
}
