//! Parameters of proxies that take effect without another pod.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Instant,
};

use serde_json::Value;

use crate::support::{
    Ask, Gateway, Namespace, PATIENCE, ask, ask_udp, gateway, get, parameters, route,
    server_saying_who, try_kubectl, wait_for,
};

const TCP: u16 = 9000;
const UDP: u16 = 9001;
/// Where sessions lead to an endpoint that never answers.
const NOWHERE: u16 = 9002;

/// An address that is routed to a link without anybody on it: it is in the LoadBalancers' range, and
/// MetalLB begins at the other end.
const NOBODY: &str = "10.99.0.250";

/// How many sessions are open all the time.
const SESSIONS: usize = 200;

/// Connections that answer, or did.
struct Sessions(Vec<TcpStream>);

impl Sessions {
    fn open(to: SocketAddr) -> Self {
        let open = |_| {
            let stream = TcpStream::connect(to).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream
        };
        let mut sessions = Self((0..SESSIONS).map(open).collect());
        sessions.all_answer();
        sessions
    }

    #[track_caller]
    fn all_answer(&mut self) {
        let answers = |stream: &mut TcpStream| {
            stream.write_all(b"who\n")?;
            match stream.read(&mut [0; 256])? {
                0 => Err(ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            }
        };
        let failed: Vec<_> =
            self.0.iter_mut().map(answers).filter_map(std::io::Result::err).collect();
        assert!(failed.is_empty(), "{} of {SESSIONS} have ended: {failed:?}", failed.len());
    }
}

struct Scene {
    namespace: Namespace,
    address: IpAddr,
    /// What has been asked for so far.
    parameters: Vec<&'static str>,
    listeners: usize,
}

impl Scene {
    fn set() -> Self {
        let namespace = Namespace::new("in-place");
        let nowhere = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: nowhere}}\nspec: {{ports: [{{port: \
             5000}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: \
             nowhere, labels: {{kubernetes.io/service-name: nowhere}}}}\naddressType: IPv4\nendpoints: \
             [{{addresses: [{NOBODY}]}}]\nports: [{{name: '', port: 5000, protocol: TCP}}]\n---\n"
        );
        namespace.apply(
            &(parameters("gw", "{}").1
                + &listeners(0)
                + &nowhere
                + &server_saying_who("app", "TCP")
                + &server_saying_who("app-udp", "UDP")
                + &route("TCPRoute", "tcp", "gw/tcp", &[("app", 5000, 1)])
                + &route("TCPRoute", "nowhere", "gw/nowhere", &[("nowhere", 5000, 1)])
                + &route("UDPRoute", "udp", "gw/udp", &[("app-udp", 5000, 1)])),
        );
        namespace.available(&["app", "app-udp"]);
        let address = Gateway::new(namespace.name(), "gw").programmed();
        let scene = Self { namespace, address, parameters: Vec::new(), listeners: 0 };
        wait_for("both to be served", || ask(scene.at(TCP)).and_then(|_| ask_udp(scene.at(UDP))));
        scene
    }

    fn gateway(&self) -> Gateway<'_> {
        Gateway::new(self.namespace.name(), "gw")
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// Asks for one thing more.
    fn set_parameter(&mut self, parameter: &'static str) {
        self.parameters.push(parameter);
        let spec = format!("{{{}}}", self.parameters.join(", "));
        self.namespace.apply(&parameters("gw", &spec).1);
    }

    /// The pods, with their containers' restarts, and what they were made by.
    fn pods(&self) -> Value {
        let selector = self.gateway().selector();
        let list = get(self.namespace.name(), &["pods", "--selector", &selector]);
        let pods = list["items"].as_array().into_iter().flatten();
        let pods: Vec<_> = pods
            .map(|pod| {
                let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
                Value::from(vec![pod["metadata"]["uid"].clone(), restarts.clone()])
            })
            .collect();
        let deployment = self.gateway().owned("deployment");
        let generation = deployment["metadata"]["generation"].clone();
        Value::from(vec![pods.into(), generation, deployment["spec"]["template"].clone()])
    }

    fn log(&self) -> String {
        let (namespace, selector) = (self.namespace.name(), self.gateway().selector());
        let args = ["logs", "--namespace", namespace, "--selector", &selector, "--tail=-1"];
        // A pod that starts has none, but there shall be no such pod: `pods` tells of it.
        try_kubectl(&args).unwrap_or_else(|error| error)
    }

    /// Waits until a session that `begin` has begun is in the access log, ended for this reason after so
    /// many seconds.
    fn ends(&self, listener: &str, reason: &str, seconds: std::ops::Range<f64>, begin: impl Fn()) {
        wait_for(format_args!("a session of {listener} to end by {reason}"), || {
            begin();
            let log = self.log();
            let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut ended: Vec<_> =
                records.filter(|record| record["listener"] == listener).collect();
            let is_it = |record: &Value| {
                record["reason"] == reason
                    && record["duration_seconds"]
                        .as_f64()
                        .is_some_and(|took| seconds.contains(&took))
            };
            match ended.pop() {
                Some(last) if is_it(&last) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Waits until the proxy has logged a line that is so, of what it does when listeners change.
    fn logs(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        wait_for(format_args!("a line of the log {what}"), || {
            let before = self.log().lines().count();
            self.listeners += 1;
            self.namespace.apply(&listeners(self.listeners % 2));
            self.gateway().programmed();
            let log = self.log();
            if log.lines().skip(before).any(&is_so) { Ok(()) } else { Err(log) }
        });
    }
}

/// The Gateway, with so many listeners that nobody uses.
fn listeners(more: usize) -> String {
    let (reference, _) = parameters("gw", "{}");
    let all = [
        ("tcp", "TCP", TCP),
        ("udp", "UDP", UDP),
        ("nowhere", "TCP", NOWHERE),
        ("unused", "TCP", 9100),
    ];
    gateway("gw", &all[..3 + more], &reference)
}

#[test]
fn timeouts_and_logs_change_without_another_pod_and_with_every_session() {
    let mut scene = Scene::set();
    let pods = scene.pods();
    let mut sessions = Sessions::open(scene.at(TCP));
    let mut goes_on = |scene: &Scene, after: &str| {
        assert_eq!(scene.pods(), pods, "pods, generation and template after {after}");
        sessions.all_answer();
    };
    let tcp = scene.at(TCP);
    let udp = scene.at(UDP);
    let nowhere = scene.at(NOWHERE);
    let connect = || {
        let began = Instant::now();
        let outcome = ask(nowhere);
        assert_eq!(outcome.ok(), Some(Ask::Refused), "nobody answers, after {:?}", began.elapsed());
    };

    scene.set_parameter("accessLog: Stdout");
    scene.ends("tcp", "closed", 0.0..60.0, || drop(ask(tcp)));
    goes_on(&scene, "accessLog");

    // Without an answer, the link itself is given up by the kernel after three seconds.
    scene.ends("nowhere", "connect_failed", 1.5..5.0, connect);
    scene.set_parameter("connectTimeoutSeconds: 1");
    scene.ends("nowhere", "connect_timeout", 1.0..1.5, connect);
    goes_on(&scene, "connectTimeoutSeconds");

    scene.set_parameter("udpSessionTimeoutSeconds: 2");
    scene.ends("udp", "session_timeout", 2.0..10.0, || drop(ask_udp(udp)));
    goes_on(&scene, "udpSessionTimeoutSeconds");

    let is_json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
    scene.set_parameter("log: {level: Debug}");
    scene.logs("of level debug", |line| is_json(line) && line.contains(r#""level":"DEBUG""#));
    goes_on(&scene, "log.level");

    scene.parameters.pop();
    scene.set_parameter("log: {level: Debug, format: Text}");
    scene.logs("as text", |line| !is_json(line) && line.contains("DEBUG"));
    goes_on(&scene, "log.format");
}
