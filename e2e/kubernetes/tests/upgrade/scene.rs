//! A Gateway under steady traffic while versions change, and what may be lost of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};

use super::{certificate, watch::Watch, watch::pods_of};
use crate::{
    support::{
        Ask, Gateway, Namespace, ask, ask_udp, gateway, get, kubectl, parameters, route, say,
        server, server_saying_who, wait_for,
    },
    traffic::{Fresh, Outcome, Session, Traffic, Transport},
};

/// Where TCP and UDP are served.
const PORT: u16 = 9000;
/// Where it is seen which configuration is in force: one of two applications answers.
const PROBE: u16 = 9002;
const TLS: u16 = 9443;

const REPLICAS: usize = 2;
const DRAIN: Duration = Duration::from_secs(10);

/// How many TCP connections and how many UDP flows are used.
const SESSIONS: usize = 12;

/// A Gateway with a listener for each of TCP, UDP and TLS, and behind those of TCP and UDP two pods that say
/// who they are.
pub(super) struct Scene {
    pub(super) namespace: Namespace,
    pub(super) tcp: SocketAddr,
    tls: SocketAddr,
    /// How many changes there have been.
    changes: u32,
    serial: u32,
    fixed: Value,
}

impl Scene {
    pub(super) fn set(name: &str) -> Self {
        let namespace = Namespace::new(name);
        namespace.apply(
            &(gateway_parameters(None)
                + &certificate::secret("certificate", 1)
                + &server_saying_who("app", "TCP")
                + &server_saying_who("app-udp", "UDP")
                + &server("even", "TCP", 5000, "even")
                + &server("odd", "TCP", 5000, "odd")
                + &changing(0)
                + &route("TCPRoute", "tcp", "gw/tcp", &[("app", 5000, 1)])
                + &route("UDPRoute", "udp", "gw/udp", &[("app-udp", 5000, 1)])
                + &route("TCPRoute", "tls", "gw/tls", &[("app", 5000, 1)])),
        );
        namespace.available(&["app", "app-udp", "even", "odd"]);
        let address = Gateway::new(namespace.name(), "gw").programmed();
        namespace.available(&["gw-l4way"]);
        let [tcp, tls] = [PORT, TLS].map(|port| SocketAddr::new(address, port));
        let mut scene = Self { namespace, tcp, tls, changes: 0, serial: 1, fixed: Value::Null };
        wait_for("both to be served", || ask(tcp).and_then(|_| ask_udp(tcp)));
        scene.gateway().answers(PROBE, "even");
        scene.shows_certificate();
        scene.fixed = scene.what_stays();
        say(&format!("what stays: {}", scene.fixed));
        scene
    }

    pub(super) fn gateway(&self) -> Gateway<'_> {
        Gateway::new(self.namespace.name(), "gw")
    }

    /// Has the proxies run this image, or else the controller's.
    pub(super) fn pin(&self, image: Option<&str>) {
        self.namespace.apply(&gateway_parameters(image));
    }

    /// Changes the configuration, so that it is seen who reads it.
    pub(super) fn change(&mut self) {
        self.changes += 1;
        self.namespace.apply(&changing(self.changes));
        let last = Value::from(self.changes.to_string());
        // It stands in what says which pods there are to be, too.
        wait_for("the controller to have seen to the Deployment", || {
            let step = &self.gateway().owned("deployment")["metadata"]["annotations"]["step"];
            if *step == last { Ok(()) } else { Err(step.clone()) }
        });
    }

    /// Changes the configuration, and waits until proxies of this image, and no others, have confirmed it.
    pub(super) fn is_served_by(&mut self, image: &str) {
        self.change();
        self.rolled(image);
        self.gateway().answers(PROBE, of_change(self.changes));
    }

    /// Waits until the proxies are ready, run this image, and no others are left.
    pub(super) fn rolled(&self, image: &str) {
        wait_for(format_args!("all proxies to run {image}"), || {
            let deployment = self.gateway().owned("deployment");
            let status = &deployment["status"];
            let selector = self.gateway().selector();
            let pods = get(self.namespace.name(), &["pods", "--selector", &selector]);
            let pods: Vec<_> = pods["items"].as_array().into_iter().flatten().collect();
            let runs = |pod: &&Value| pod["spec"]["containers"][0]["image"] == image;
            let is_over = status["observedGeneration"] == deployment["metadata"]["generation"]
                && ["updatedReplicas", "readyReplicas", "replicas"]
                    .iter()
                    .all(|count| status[count] == REPLICAS)
                && pods.len() == REPLICAS
                && pods.iter().all(runs);
            if is_over { Ok(()) } else { Err(format!("{status:#}, {} pods", pods.len())) }
        });
    }

    /// Checks that the change before the last one is in force.
    pub(super) fn serves_what_was_before(&self) {
        let probe = SocketAddr::new(self.tcp.ip(), PROBE);
        let before = format!("{}\n", of_change(self.changes - 1));
        assert_eq!(ask(probe).ok(), Some(Ask::Answer(before)), "the configuration before goes on");
    }

    /// Gives the TLS listener another certificate, and waits until it shows that.
    pub(super) fn renew_certificate(&mut self) {
        self.serial += 1;
        self.namespace.apply(&certificate::secret("certificate", self.serial));
        self.shows_certificate();
    }

    fn shows_certificate(&self) {
        wait_for(format_args!("certificate {}", self.serial), || {
            match certificate::serial(self.tls) {
                Ok(serial) if serial == self.serial => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// What no upgrade may change.
    fn what_stays(&self) -> Value {
        let service = self.gateway().owned("service");
        let spec = &service["spec"];
        let ports = spec["ports"].as_array().into_iter().flatten();
        let node_ports: BTreeMap<_, _> =
            ports.map(|port| (port["name"].to_string(), port["nodePort"].clone())).collect();
        json!({
            "uid": service["metadata"]["uid"],
            "clusterIPs": spec["clusterIPs"],
            "nodePorts": node_ports,
            "healthCheckNodePort": spec["healthCheckNodePort"],
            "ingress": service["status"]["loadBalancer"],
            "addresses": self.gateway().object()["status"]["addresses"],
        })
    }

    /// Does something, and sees to it that no proxy is replaced.
    pub(super) fn keeps_its_pods(&mut self, act: impl FnOnce(&mut Self)) {
        let before = self.gateway().pods();
        act(self);
        assert_eq!(self.gateway().pods(), before, "a proxy was replaced");
    }

    /// Waits until every RoleBinding that isn't the Gateway's own has its owner's hash, and there is one.
    pub(super) fn bindings_have_hashes(&self) {
        let namespace = self.namespace.name();
        let bindings = |more: &str| {
            let selector = format!("l4way.dev/gateway-namespace={namespace},{more}");
            kubectl(&["get", "rolebindings", "-A", "-o", "name", "--selector", &selector])
        };
        wait_for("RoleBindings with hashes, and no others", || {
            let (with, without) = (bindings("l4way.dev/owner"), bindings("!l4way.dev/owner"));
            let is_so = !with.is_empty() && without.is_empty();
            if is_so { Ok(()) } else { Err(format!("{with}, without: {without}")) }
        });
    }

    /// Does something under steady traffic, and sees to it that nothing was lost but what may be.
    pub(super) fn during(&mut self, what: &str, act: impl FnOnce(&mut Self)) {
        let watch = Watch::start(self.gateway());
        let traffic = Traffic::start(&[self.tcp], SESSIONS, self.tcp);
        let pods = pods_of(self.tcp);
        let unknown: Vec<_> =
            traffic.from().iter().filter(|from| !pods.contains_key(from)).collect();
        assert!(unknown.is_empty(), "connection tracking doesn't know {unknown:?}: {pods:?}");
        let began = Instant::now();
        act(self);
        let took = began.elapsed();
        let outcome = traffic.stop();
        let ending = watch.ending();
        let sessions = outcome.sessions.iter().map(|session| {
            let pod = &pods[&(session.transport, session.from)];
            Carried { session, ending: ending.get(pod).copied() }
        });
        let sessions: Vec<_> = sessions.collect();
        say(&format!(
            "{what}: {:.1} s, {}",
            took.as_secs_f64(),
            told(&outcome, &sessions, ending.len())
        ));
        let wrong: Vec<_> =
            sessions.iter().filter_map(|carried| carried.is_wrong(ending.len())).collect();
        assert!(wrong.is_empty(), "{what}: more was lost than may be: {wrong:#?}");
        for (kind, fresh) in [("connections", &outcome.fresh), ("flows", &outcome.flows)] {
            for (began, why) in &fresh.failures {
                let began = SystemTime::now() - began.elapsed();
                let after = ending.values().map(|&ending| seconds_after(ending, began));
                let after: Vec<_> = after.collect();
                say(&format!("failed: {why}, begun {after:.1?} s after proxies were told to end"));
            }
            assert!(fresh.failures.is_empty(), "{what}: new {kind} failed");
        }
        self.shows_certificate();
        assert_eq!(self.what_stays(), self.fixed, "{what}: the Service or the addresses");
    }
}

/// A session, and when its proxy was told to end, if it was.
struct Carried<'a> {
    session: &'a Session,
    ending: Option<SystemTime>,
}

impl Carried<'_> {
    /// How many seconds after its proxy was told to end requests weren't answered; less than none is before.
    fn lost_after(&self) -> impl Iterator<Item = f64> {
        let failures = self.session.failures.iter();
        failures.filter_map(|(at, _)| {
            let ending = self.ending?;
            Some(seconds_after(ending, *at))
        })
    }

    /// What was lost that may not be. A flow may go from proxy to proxy so many times.
    fn is_wrong(&self, moves: usize) -> Option<String> {
        let session = self.session;
        if session.is_whole() {
            return None;
        }
        let Some(ending) = self.ending else {
            return Some(format!("its proxy goes on: {session:?}"));
        };
        let not_before =
            |time: SystemTime| session.failures.iter().all(|(failed, _)| *failed >= time);
        let is_right = match session.transport {
            Transport::Tcp => session.all.len() == 1 && not_before(ending + DRAIN),
            // When a pod is no longer ready, kube-proxy deletes the UDP flows to it from connection tracking, so
            // that the next datagram goes to another. An answer that is on its way just then is translated
            // for nobody: the node tells the proxy so (ICMP port unreachable).
            Transport::Udp => session.failures.len() <= moves && not_before(ending),
        };
        let after: Vec<_> = self.lost_after().collect();
        (!is_right).then(|| format!("{after:?} s after its proxy was told to end: {session:?}"))
    }
}

/// How long after a time another one is; less than nothing if it is before.
fn seconds_after(time: SystemTime, at: SystemTime) -> f64 {
    match at.duration_since(time) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

/// What was measured.
fn told(outcome: &Outcome, sessions: &[Carried<'_>], replaced: usize) -> String {
    let broken = |transport| {
        let of = sessions.iter().filter(move |carried| carried.session.transport == transport);
        of.filter(|carried| !carried.session.is_whole())
    };
    let when = |transport| {
        let times: Vec<_> = broken(transport).flat_map(Carried::lost_after).collect();
        if times.is_empty() {
            return String::new();
        }
        let first = times.iter().copied().fold(f64::INFINITY, f64::min);
        let last = times.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!(" {first:.1} to {last:.1} s after their proxy was told to end")
    };
    let failed = |fresh: &Fresh| {
        let failed = fresh.failures.len();
        format!("{failed} of {}", failed + fresh.answered)
    };
    let lost = broken(Transport::Udp).map(|carried| carried.session.failures.len());
    let others = broken(Transport::Udp).filter(|carried| carried.session.all.len() > 1);
    format!(
        "{replaced} proxies replaced, {} requests answered; {} of {SESSIONS} connections ended{}; {} of \
         {SESSIONS} UDP flows were answered by another backend, {} datagrams were lost{}; of new connections \
         {} failed, of new flows {}",
        outcome.answers(),
        broken(Transport::Tcp).count(),
        when(Transport::Tcp),
        others.count(),
        lost.sum::<usize>(),
        when(Transport::Udp),
        failed(&outcome.fresh),
        failed(&outcome.flows),
    )
}

/// Parameters that have the proxies run this image, or else the controller's.
fn gateway_parameters(image: Option<&str>) -> String {
    let image = image.map(|image| format!(", image: {image:?}")).unwrap_or_default();
    let drain = DRAIN.as_secs();
    let spec = format!(
        "{{replicas: {REPLICAS}, drainSeconds: {drain}, service: {{type: LoadBalancer}}{image}}}"
    );
    parameters("gw", &spec).1
}

/// Which application answers after so many changes.
fn of_change(changes: u32) -> &'static str {
    if changes.is_multiple_of(2) { "even" } else { "odd" }
}

/// The Gateway, and the route that says how many changes there have been.
fn changing(changes: u32) -> String {
    let (reference, _) = parameters("gw", "{}");
    let annotated = reference
        .replace("{parametersRef", &format!("{{annotations: {{step: '{changes}'}}, parametersRef"));
    let listeners = [("tcp", "TCP", PORT), ("udp", "UDP", PORT), ("probe", "TCP", PROBE)];
    let gateway = gateway("gw", &listeners, &annotated);
    let plain = gateway.strip_suffix("---\n").unwrap_or(&gateway);
    format!(
        "{plain}  - {{name: tls, protocol: TLS, port: {TLS}, tls: {{mode: Terminate, certificateRefs: [{{name: \
         certificate}}]}}}}\n---\n{}",
        route("TCPRoute", "probe", "gw/probe", &[(of_change(changes), 5000, 1)])
    )
}
