use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use super::{Ask, ask, ask_udp, exists, get, kubectl, wait_for};

/// The controller that the tests are about.
pub(crate) const CONTROLLER: &str = "l4way.dev/gateway-controller";

/// What the controllers put on everything that they make for a Gateway.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Every kind that is made for a Gateway, by the controller or by Kubernetes after it.
const MADE: &str = "deployments,replicasets,pods,services,endpointslices,serviceaccounts,roles,\
                    rolebindings,poddisruptionbudgets,networkpolicies,secrets,leases";

/// A Gateway in the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gateway<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// A pod that runs a Gateway's proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) ip: String,
}

impl<'a> Gateway<'a> {
    pub(crate) fn new(namespace: &'a str, name: &'a str) -> Self {
        Self { namespace, name }
    }

    pub(crate) fn namespace(&self) -> &'a str {
        self.namespace
    }

    /// The Gateway as the API server has it.
    pub(crate) fn object(&self) -> Value {
        get(self.namespace, &["gateway", self.name])
    }

    /// What its objects are called.
    pub(crate) fn base(&self) -> String {
        format!("{}-l4way", self.name)
    }

    /// One of its objects.
    pub(crate) fn owned(&self, kind: &str) -> Value {
        get(self.namespace, &[kind, &self.base()])
    }

    /// Waits until the condition says this of the Gateway's present generation; its message.
    pub(crate) fn wait(&self, kind: &str, status: &str, reason: &str) -> String {
        wait_for_condition(self.namespace, "gateway", self.name, (kind, status, reason))
    }

    /// Waits until `Programmed` is False for this reason, in a message that has all of these words.
    pub(crate) fn not_programmed(&self, reason: &str, words: &[&str]) {
        wait_for(format_args!("{reason} of Gateway {} to say {words:?}", self.name), || {
            let message = self.wait("Programmed", "False", reason);
            if words.iter().all(|word| message.contains(word)) { Ok(()) } else { Err(message) }
        });
    }

    /// Waits until it is programmed as it is, and returns its first address.
    pub(crate) fn programmed(&self) -> IpAddr {
        self.wait("Programmed", "True", "Programmed");
        let address = &self.object()["status"]["addresses"][0]["value"];
        address.as_str().and_then(|ip| ip.parse().ok()).expect("an IP address in its status")
    }

    /// Waits until a session on this port reaches the application `app`.
    pub(crate) fn serves(&self, port: u16) {
        self.answers(port, "Hello from app!");
    }

    /// Waits until a session on this port gets this answer.
    pub(crate) fn answers(&self, port: u16, expected: &str) {
        let to = SocketAddr::new(self.programmed(), port);
        wait_for(format_args!("the answer {expected:?} of {to}"), || match ask(to) {
            Ok(Ask::Answer(answer)) if answer.trim_end() == expected => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Waits until a connection to this port is refused, or reset.
    pub(crate) fn refuses(&self, port: u16) {
        let to = SocketAddr::new(self.programmed(), port);
        wait_for(format_args!("{to} to refuse"), || match ask(to) {
            Ok(Ask::Refused) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Waits until a datagram to this port gets this answer.
    pub(crate) fn answers_udp(&self, port: u16, expected: &str) {
        let to = SocketAddr::new(self.programmed(), port);
        wait_for(format_args!("the answer {expected:?} of {to}"), || match ask_udp(to) {
            Ok(answer) if answer.trim_end() == expected => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// What its objects are selected by.
    pub(crate) fn selector(&self) -> String {
        format!("{GATEWAY_NAME}={}", self.name)
    }

    /// Its running proxies.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        let selector = self.selector();
        let list = get(self.namespace, &["pods", "--selector", &selector]);
        let pods = list["items"].as_array().into_iter().flatten();
        let alive = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut pods: Vec<_> = alive
            .map(|pod| Pod {
                uid: text(&pod["metadata"]["uid"]),
                name: text(&pod["metadata"]["name"]),
                ip: text(&pod["status"]["podIP"]),
            })
            .collect();
        pods.sort();
        pods
    }

    /// The sum of a metric's samples that have all of these labels, over the Gateway's proxies.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let pods = self.pods();
        let texts = pods.iter().filter_map(|pod| fetch(&pod.ip, "/metrics").ok());
        texts.map(|text| sum(&text, name, labels)).sum()
    }

    /// Waits until a metric's samples that have all of these labels add up to at least this.
    pub(crate) fn counts(&self, name: &str, labels: &[&str], at_least: f64) -> f64 {
        wait_for(format_args!("{name} {labels:?} of Gateway {}", self.name), || {
            let value = self.metric(name, labels);
            if value >= at_least { Ok(value) } else { Err(value) }
        })
    }

    /// Waits until nothing is left of what was made for it, in any namespace.
    pub(crate) fn leaves_nothing(&self) {
        let selector = self.selector();
        let of_namespace = format!("l4way.dev/gateway-namespace={}", self.namespace);
        wait_for(format_args!("nothing to be left of Gateway {}", self.name), || {
            let args = ["get", MADE, "--namespace", self.namespace, "-o", "name", "--selector"];
            let here = kubectl(&[&args[..], &[&selector]].concat());
            let args =
                ["get", "rolebindings", "--all-namespaces", "--output", "name", "--selector"];
            let elsewhere =
                kubectl(&[&args[..], &[&format!("{selector},{of_namespace}")]].concat());
            let left = here + &elsewhere;
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        assert!(!exists(self.namespace, "service", &self.base()), "a Service without its label");
    }
}

/// Waits until a condition of an object, or of our controller's entry in a route's status, says this
/// of the present generation; its message.
pub(crate) fn wait_for_condition(
    namespace: &str,
    kind: &str,
    name: &str,
    (condition, status, reason): (&str, &str, &str),
) -> String {
    let what = format!("{condition} {status} ({reason}) of {kind} {name} in {namespace}");
    wait_for(what, || {
        let object = get(namespace, &[kind, name]);
        let generation = &object["metadata"]["generation"];
        let found = conditions(&object).into_iter().find(|found| {
            found["type"] == condition
                && found["status"] == status
                && found["reason"] == reason
                && found["observedGeneration"] == *generation
        });
        let message = found.and_then(|found| found["message"].as_str());
        message.map(str::to_owned).ok_or_else(|| format!("{:#}", object["status"]))
    })
}

/// The conditions of an object, or those of our controller's entries in a route's status.
pub(crate) fn conditions(object: &Value) -> Vec<&Value> {
    let status = &object["status"];
    let parents = status["parents"].as_array().into_iter().flatten();
    let ours = parents.filter(|parent| parent["controllerName"] == CONTROLLER);
    let lists = std::iter::once(&status["conditions"]).chain(ours.map(|ours| &ours["conditions"]));
    lists.filter_map(Value::as_array).flatten().collect()
}

/// A page of a proxy's admin endpoint.
fn fetch(ip: &str, path: &str) -> std::io::Result<String> {
    let ip: IpAddr = ip.parse().map_err(std::io::Error::other)?;
    let to = SocketAddr::new(ip, 19_902);
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: l4way\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
