//! Parts of the cluster are killed, one at a time and without a chance to say good-bye, under steady
//! traffic: nothing is lost but sessions on what was killed. docs/resilience.md has what was measured.
//!
//! These tests take things away that others need, so they run alone: `e2e/kubernetes/run`.

mod namespaces;

use std::{
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    audit::Audit,
    resilience::{kill, leader, signal},
    support::{
        Ask, Gateway, Namespace, ask, ask_udp, gateway, get, kubectl, parameters, project, route,
        say, server, server_saying_who, wait_for,
    },
    traffic::{Outcome, Traffic, Transport},
};

const PORT: u16 = 9000;

const SYSTEM: &str = "l4way-system";

/// How many TCP connections and how many UDP flows are used.
const SESSIONS: usize = 12;

/// What is required of an idle machine; a busy one is given so many times as much.
const BUSY: u32 = 5;

/// A Gateway with two proxies, and behind each listener two pods that say who they are.
struct Scene {
    namespace: Namespace,
    outside: SocketAddr,
}

impl Scene {
    fn set(name: &str) -> Self {
        let namespace = Namespace::new(name);
        let (reference, parameters) = parameters("gw", "{replicas: 2}");
        namespace.apply(
            &(parameters
                + &gateway("gw", &[("tcp", "TCP", PORT), ("udp", "UDP", PORT)], &reference)
                + &server_saying_who("app", "TCP")
                + &server_saying_who("app-udp", "UDP")
                + &server("next", "TCP", 5000, "next")
                + &route("TCPRoute", "tcp", "gw", &[("app", 5000, 1)])
                + &route("UDPRoute", "udp", "gw", &[("app-udp", 5000, 1)])),
        );
        namespace.available(&["app", "app-udp", "next"]);
        let scene = Self { outside: SocketAddr::new(gw(&namespace).programmed(), PORT), namespace };
        scene.namespace.available(&["gw-l4way"]);
        wait_for("both to be served", || ask(scene.outside).and_then(|_| ask_udp(scene.outside)));
        scene.knows_every_pod();
        scene
    }

    /// Waits until each proxy has led somebody to each pod: pods become ready one after the other.
    fn knows_every_pod(&self) {
        for proxy in self.gateway().pods() {
            let to = SocketAddr::new(proxy.ip.parse().expect("an IP"), PORT);
            for application in ["app", "app-udp"] {
                let mut missing = self.pods(application);
                wait_for(format_args!("every pod of {application} to answer at {to}"), || {
                    let answer = if application == "app" {
                        match ask(to).map_err(|error| error.to_string())? {
                            Ask::Answer(answer) => answer,
                            Ask::Refused => return Err("a refusal".to_owned()),
                        }
                    } else {
                        ask_udp(to).map_err(|error| error.to_string())?
                    };
                    missing.retain(|pod| !answer.starts_with(&**pod));
                    if missing.is_empty() { Ok(()) } else { Err(format!("none of {missing:?}")) }
                });
            }
        }
    }

    fn gateway(&self) -> Gateway<'_> {
        gw(&self.namespace)
    }

    /// Traffic through the Service, once both transports are served.
    fn traffic(&self) -> Traffic {
        Traffic::start(&[self.outside], SESSIONS, self.outside)
    }

    /// Leads new connections to another application, or back, and waits until it answers.
    fn switch(&self, to: &str) -> Duration {
        let began = Instant::now();
        self.namespace.apply(&route("TCPRoute", "tcp", "gw", &[(to, 5000, 1)]));
        wait_for(format_args!("an answer of {to}"), || match ask(self.outside) {
            Ok(Ask::Answer(answer)) if answer.starts_with(to) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        began.elapsed()
    }

    /// The pods of an application.
    fn pods(&self, application: &str) -> Vec<String> {
        let selector = format!("app={application}");
        let pods = get(self.namespace.name(), &["pods", "--selector", &selector]);
        let pods = pods["items"].as_array().into_iter().flatten();
        let names = pods.filter_map(|pod| pod["metadata"]["name"].as_str());
        names.map(str::to_owned).collect()
    }
}

fn gw(namespace: &Namespace) -> Gateway<'_> {
    Gateway::new(namespace.name(), "gw")
}

/// Stops, kills or starts a component of the cluster.
fn component(what: &str, name: &str) {
    let status = Command::new(project("e2e/cluster/component")).args([what, name]).status();
    assert!(status.expect("e2e/cluster/component runs").success(), "can't {what} {name}");
}

fn said(what: &str, outcome: &Outcome) {
    let of = |transport| {
        let lost = outcome.broken().filter(|session| session.transport == transport).count();
        format!("{lost} of {SESSIONS}")
    };
    say(&format!(
        "{what} killed: {} requests answered; broken: {} connections, {} UDP flows, {} of {} new \
         connections",
        outcome.answers(),
        of(Transport::Tcp),
        of(Transport::Udp),
        outcome.fresh.failures.len(),
        outcome.fresh.failures.len() + outcome.fresh.answered,
    ));
}

/// Checks a time that is required, and gives a busy machine more.
fn within(what: &str, limit: Duration, took: Duration) {
    say(&format!("{what} after {:.1} s, at most {} s wanted", took.as_secs_f64(), limit.as_secs()));
    assert!(took < limit * BUSY, "{what} after {took:?}");
}

#[test]
fn the_leading_controller() {
    let scene = Scene::set("kill-controller");
    let first = wait_for("a leader", || match leader() {
        none if none.is_empty() => Err("none"),
        first => Ok(first),
    });
    let traffic = scene.traffic();
    let killed = Instant::now();
    kill(&first);
    scene.switch("next");
    within("a change is applied by whoever leads then", Duration::from_secs(20), killed.elapsed());
    scene.switch("app");
    let outcome = traffic.stop();
    said("the leading controller", &outcome);
    outcome.assert_whole();
    controllers_are_back();
}

/// No kubelet, so that nobody restarts what gives no sign of life. It comes back when the test ends.
struct NoKubelet;

impl NoKubelet {
    fn begin() -> Self {
        component("stop", "kubelet");
        Self
    }
}

impl Drop for NoKubelet {
    fn drop(&mut self) {
        component("start", "kubelet");
    }
}

#[test]
fn a_leader_that_was_stopped_begins_no_request_after_its_lease() {
    let scene = Scene::set("stopped-controller");
    let first = wait_for("a leader", || match leader() {
        none if none.is_empty() => Err("none"),
        first => Ok(first),
    });
    let kubelet = NoKubelet::begin();
    // There is something to write at any time: when it stops, and when it goes on.
    let change = |to: &str| {
        scene.namespace.apply(&route("TCPRoute", "tcp", "gw", &[(to, 5000, 1)]));
    };
    let changes = ["next", "app"].into_iter().cycle();
    changes.clone().take(4).for_each(change);
    signal(&first, Signal::STOP);
    let stopped = Instant::now();
    for to in changes.clone() {
        change(to);
        if stopped.elapsed() > Duration::from_secs(30) {
            break;
        }
    }
    let second = wait_for("another leader", || match leader() {
        other if other != first && !other.is_empty() => Ok(other),
        same => Err(same),
    });
    let audit = Audit::from_now();
    signal(&first, Signal::CONT);
    let mut changes = changes;
    wait_for("both to have been heard of", || {
        changes.by_ref().take(2).for_each(change);
        let looks =
            audit.requests_of(&first).iter().filter(|request| request.is_of_lease()).count();
        let written = audit.requests_of(&second).iter().filter(|request| request.changes()).count();
        if looks > 2 && written > 10 { Ok(()) } else { Err(format!("{looks} and {written}")) }
    });
    let requests = audit.requests_of(&first);
    let changed: Vec<_> =
        requests.iter().filter(|request| request.changes() && !request.is_of_lease()).collect();
    assert!(changed.is_empty(), "{first} was not the leader any more: {changed:#?}");
    say(&format!(
        "{} requests of the former leader, none of which changed anything",
        requests.len()
    ));
    drop(kubelet);
    controllers_are_back();
}

/// The controllers, which come back when the test ends.
struct NoControllers;

impl NoControllers {
    fn begin() -> Self {
        scale_controllers("0");
        let selector = "app.kubernetes.io/name=l4way,app.kubernetes.io/component=controller";
        kubectl(&["wait", "pod", "--for=delete", "--timeout=120s", "-l", selector, "-n", SYSTEM]);
        Self
    }
}

impl Drop for NoControllers {
    fn drop(&mut self) {
        scale_controllers("2");
        controllers_are_back();
    }
}

fn controllers_are_back() {
    let deployment = "deployment/l4way-controller";
    kubectl(&["rollout", "status", deployment, "--namespace", SYSTEM, "--timeout=120s"]);
}

fn scale_controllers(replicas: &str) {
    let replicas = format!("--replicas={replicas}");
    kubectl(&["scale", "deployment/l4way-controller", &replicas, "-n", SYSTEM]);
}

#[test]
fn every_controller() {
    let scene = Scene::set("no-controllers");
    let traffic = scene.traffic();
    let controllers = NoControllers::begin();
    let outcome = traffic.stop();
    said("every controller", &outcome);
    outcome.assert_whole();

    // Pods that come and go are noticed, and new proxies find their configuration.
    let old = scene.pods("app");
    scene.namespace.kubectl(&["delete", "pod", "--selector=app=app"]);
    scene.namespace.available(&["app"]);
    wait_for("an answer of a new pod", || match ask(scene.outside) {
        Ok(Ask::Answer(answer)) if !old.iter().any(|pod| answer.starts_with(&**pod)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let before = scene.gateway().pods();
    for pod in &before {
        scene.namespace.kubectl(&["delete", "pod", &pod.name, "--force", "--grace-period=0"]);
    }
    let after = wait_for("new proxies", || {
        let pods = scene.gateway().pods();
        let new = pods.iter().filter(|pod| !before.contains(pod) && !pod.ip.is_empty()).count();
        if new == before.len() { Ok(pods) } else { Err(format!("{pods:?}")) }
    });
    for pod in after {
        let proxy = SocketAddr::new(pod.ip.parse().expect("an IP"), PORT);
        wait_for("an answer through a new proxy", || ask(proxy));
    }
    drop(controllers);
    scene.switch("next");
}

#[test]
fn the_api_server() {
    let scene = Scene::set("kill-api-server");
    let traffic = scene.traffic();
    component("kill", "kube-apiserver");
    // Long enough for everybody to notice.
    thread::sleep(Duration::from_secs(10));
    component("start", "kube-apiserver");
    let took = scene.switch("next");
    within("a change is applied after its return", Duration::from_secs(5), took);
    scene.switch("app");
    let outcome = traffic.stop();
    said("the API server", &outcome);
    outcome.assert_whole();
}

#[test]
fn the_controller_manager() {
    let scene = Scene::set("kill-kcm");
    let traffic = scene.traffic();
    component("kill", "kube-controller-manager");
    scene.switch("next");
    component("start", "kube-controller-manager");
    scene.switch("app");
    let outcome = traffic.stop();
    said("kube-controller-manager", &outcome);
    outcome.assert_whole();
}

#[test]
fn a_backend() {
    let scene = Scene::set("kill-backend");
    for application in ["app", "app-udp"] {
        let traffic = scene.traffic();
        let victim = scene.pods(application).swap_remove(0);
        kill(&victim);
        let killed = Instant::now();
        scene.namespace.available(&[application]);
        wait_for("the killed pod to be ready again", || {
            let pod = get(scene.namespace.name(), &["pod", &victim]);
            let status = &pod["status"]["containerStatuses"][0];
            let again = status["restartCount"] != 0 && status["ready"] == true;
            if again { Ok(()) } else { Err(status.to_string()) }
        });
        let outcome = traffic.stop();
        said(&format!("a pod of {application}"), &outcome);
        let on_it = outcome.sessions.iter().filter(|session| session.first == victim).count();
        assert!(on_it > 0 && on_it < SESSIONS, "of {SESSIONS}, {on_it} sessions are on {victim}");
        let others: Vec<_> = outcome.broken().filter(|session| session.first != victim).collect();
        assert!(others.is_empty(), "sessions on others were lost: {others:#?}");
        // Those that had been connected just then.
        let mut later = outcome.fresh.failures.iter().filter(|(began, _)| *began > killed);
        assert_eq!(later.next(), None, "a new connection failed instead of going to another pod");
    }
}

#[test]
fn a_proxy() {
    let scene = Scene::set("kill-proxy");
    let pods = scene.gateway().pods();
    let direct = pods.iter().map(|pod| SocketAddr::new(pod.ip.parse().expect("an IP"), PORT));
    let direct: Vec<_> = direct.collect();
    let traffic = Traffic::start(&direct, SESSIONS, scene.outside);
    kill(&pods[0].name);
    let killed = Instant::now();
    wait_for("the killed proxy to be ready again", || {
        let pod = get(scene.namespace.name(), &["pod", &pods[0].name]);
        let status = &pod["status"]["containerStatuses"][0];
        let again = status["restartCount"] != 0 && status["ready"] == true;
        if again { Ok(()) } else { Err(status.to_string()) }
    });
    let ready = killed.elapsed();
    let outcome = traffic.stop();
    said("a proxy of two", &outcome);
    let last = outcome.fresh.failures.last().map_or(Duration::ZERO, |(began, _)| *began - killed);
    say(&format!(
        "it is ready again after {:.1} s; the last new connection that it cost was begun after {:.1} s",
        ready.as_secs_f64(),
        last.as_secs_f64()
    ));
    let others: Vec<_> = outcome.broken().filter(|session| session.to != direct[0]).collect();
    assert!(others.is_empty(), "sessions through the other proxy were lost: {others:#?}");
    let mut connections = outcome.broken().filter(|broken| broken.transport == Transport::Tcp);
    assert!(connections.any(|broken| broken.to == direct[0]), "no connection noticed the kill");
    let after = Traffic::start(&[scene.outside], SESSIONS, scene.outside).stop();
    after.assert_whole();
}
