//! How long changes take: from the request that writes one to the first answer that shows it. Clients
//! connect anew about every millisecond meanwhile.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Result,
    cluster::{Cluster, Kind},
    objects::{self, Transport, listener, rules, service, slice},
    probe::{self, Answered},
    say,
    stage::Stage,
    stats::Stats,
};

/// What is left to the cluster between two changes, to be at rest before the next.
pub(crate) const PAUSE: Duration = Duration::from_millis(150);

/// How long clients have been connecting when a change is made.
const RUN_UP: Duration = Duration::from_millis(5);

const PORT: u16 = 9000;

/// The listeners that are added have ports from here on.
const FIRST_ADDED_PORT: u16 = 10000;

/// Changes of one kind.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) durations: Stats,
    /// How many connections failed meanwhile.
    pub(crate) failed: usize,
}

/// Listeners that were added.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// Until the proxy answers.
    pub(crate) pod: Stats,
    /// Until it answers at the Gateway's address.
    pub(crate) address: Stats,
}

/// A route's backend is switched between two.
pub(crate) fn route(stage: &Stage<'_>, count: usize) -> Result<Changes> {
    let name = "change-route";
    let to = served(stage, name, "a")?;
    flip(stage.cluster, to, count, |backend| {
        let patch = json!({ "spec": rules(&[(backend, 1)]) });
        stage.cluster.merge(Kind::TCP_ROUTE, name, &patch)
    })
}

/// The endpoint of a Service is exchanged.
pub(crate) fn endpoint(stage: &Stage<'_>, count: usize) -> Result<Changes> {
    let name = "change-endpoint";
    let address = |application: &str| {
        let pods = stage.pods(&format!("app={application}"))?;
        pods.first().map(|(address, _)| *address).ok_or("an application has no pod".to_owned())
    };
    let (a, b) = (address("a")?, address("b")?);
    stage.cluster.apply(&service(name, Transport::Tcp, false), Kind::SERVICE)?;
    stage.cluster.apply(&slice(name, name, a), Kind::SLICE)?;
    let to = served(stage, name, name)?;
    flip(stage.cluster, to, count, |application| {
        let address = if application == "a" { a } else { b };
        let endpoint = json!({ "addresses": [address], "conditions": { "ready": true } });
        stage.cluster.merge(Kind::SLICE, name, &json!({ "endpoints": [endpoint] }))
    })
}

/// A Gateway with a route to a Service: where it serves.
fn served(stage: &Stage<'_>, name: &str, service: &str) -> Result<SocketAddr> {
    stage.gateway(name, &[listener("tcp", Transport::Tcp, PORT)])?;
    let route = objects::route(name, Transport::Tcp, name, &[(service, 1)]);
    stage.cluster.apply(&route, Kind::TCP_ROUTE)?;
    let served = stage.serves(name, PORT)?;
    Ok(SocketAddr::new(served.address, PORT))
}

/// Changes who answers from `a` to `b` and back.
fn flip(
    cluster: &Cluster,
    to: SocketAddr,
    count: usize,
    change: impl Fn(&str) -> Result<()>,
) -> Result<Changes> {
    let mut durations = Vec::new();
    let mut failed = 0;
    for number in 0..count {
        let next = if number % 2 == 0 { "b" } else { "a" };
        rest(cluster);
        let (began, answered) =
            change_under(|| change(next), || probe::tcp(to, |answer| answer == next))?;
        durations.push(answered.at - began);
        for failure in &answered.failures {
            say(&format!("a new connection failed during change {number}: {failure}"));
        }
        failed += answered.failures.len();
    }
    Ok(Changes { durations: Stats::new(durations), failed })
}

/// Makes a change while a client asks for what it brings. When it began, and what the client got.
fn change_under(
    change: impl FnOnce() -> Result<()>,
    client: impl FnOnce() -> Result<Answered> + Send,
) -> Result<(Instant, Answered)> {
    thread::scope(|scope| {
        let client = scope.spawn(client);
        thread::sleep(RUN_UP);
        let began = Instant::now();
        change()?;
        let answered = client.join().map_err(|_| "a client has panicked".to_owned())??;
        Ok((began, answered))
    })
}

/// Lets the cluster and our connections to it come to rest.
fn rest(cluster: &Cluster) {
    cluster.run(async { tokio::time::sleep(PAUSE).await });
}

/// Listeners are added, one after the other.
pub(crate) fn listeners(stage: &Stage<'_>, count: usize) -> Result<Listeners> {
    let name = "change-listener";
    stage.gateway(name, &[listener("tcp", Transport::Tcp, PORT)])?;
    stage
        .cluster
        .apply(&objects::route(name, Transport::Tcp, name, &[("a", 1)]), Kind::TCP_ROUTE)?;
    let served = stage.serves(name, PORT)?;
    let (mut pod, mut address) = (Vec::new(), Vec::new());
    let set = |more: Option<Value>| {
        let mut listeners = vec![listener("tcp", Transport::Tcp, PORT)];
        listeners.extend(more);
        let patch = json!({ "spec": { "listeners": listeners } });
        stage.cluster.merge(Kind::GATEWAY, name, &patch)
    };
    for port in (FIRST_ADDED_PORT..).take(count) {
        let added = listener("added", Transport::Tcp, port);
        let in_pod = SocketAddr::new(served.pod, port);
        let outside = SocketAddr::new(served.address, port);
        rest(stage.cluster);
        let (began, answers) = change_under(|| set(Some(added)), || probe::opened(in_pod, "a"))?;
        pod.push(answers.at - began);
        address.push(probe::opened(outside, "a")?.at - began);
        set(None)?;
        probe::closed(in_pod)?;
    }
    Ok(Listeners { pod: Stats::new(pod), address: Stats::new(address) })
}
