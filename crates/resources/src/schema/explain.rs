//! What broken CEL rules mean: at which entry, and in words of ours. A rule about a whole list doesn't tell.

use serde_json::Value;

use super::{check::Problem, mapped};
use crate::path::Path;

/// The problems that a rule with this message, at this place of an object, stands for.
pub(super) fn explain(object: &Value, path: &Path, message: &str) -> Vec<Problem> {
    let found = path.value_in(object).map(|value| problems(value, path, message));
    let found = found.unwrap_or_default();
    if !found.is_empty() {
        return found;
    }
    let problem = Problem::new(path.clone(), message);
    let help = message.contains("address").then(|| mapped::help(object, path)).flatten();
    vec![match help {
        Some(help) => problem.with_help(help),
        None => problem,
    }]
}

fn problems(value: &Value, path: &Path, message: &str) -> Vec<Problem> {
    match message {
        "Combination of port, protocol and hostname must be unique for each listener" => {
            let key =
                |listener: &Value| ["port", "protocol", "hostname"].map(|f| listener[f].clone());
            twins(value, path, key, "port", |listener, first| {
                let (port, protocol) = (&listener["port"], text(&listener["protocol"]));
                let hostname = match listener["hostname"].as_str() {
                    Some(hostname) => format!(" for hostname {hostname:?}"),
                    None => String::new(),
                };
                format!(
                    "{first} is on port {port} with {protocol}{hostname} already; change one of them"
                )
            })
        }
        "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']" => {
            each(value, path, |listener| {
                let protocol = text(&listener["protocol"]);
                let has = !listener["tls"].is_null() && ["HTTP", "TCP", "UDP"].contains(&protocol);
                has.then(|| ("tls", format!("protocol {protocol} has no tls; remove it")))
            })
        }
        "hostname must not be specified for protocols ['TCP', 'UDP']" => {
            each(value, path, |listener| {
                let protocol = text(&listener["protocol"]);
                let has = !text(&listener["hostname"]).is_empty();
                let has = has && ["TCP", "UDP"].contains(&protocol);
                has.then(|| {
                    ("hostname", format!("protocol {protocol} has no hostnames; remove it"))
                })
            })
        }
        "tls mode must be Terminate for protocol HTTPS" => each(value, path, |listener| {
            let mode = text(&listener["tls"]["mode"]);
            let is_wrong = listener["protocol"] == "HTTPS" && !["", "Terminate"].contains(&mode);
            is_wrong.then(|| ("tls", "HTTPS ends TLS sessions: its mode is Terminate".to_owned()))
        }),
        "tls mode must be set for protocol TLS" => each(value, path, |listener| {
            let is_wrong =
                listener["protocol"] == "TLS" && text(&listener["tls"]["mode"]).is_empty();
            let message = "protocol TLS needs tls, with a mode: Terminate or Passthrough";
            is_wrong.then(|| ("tls", message.to_owned()))
        }),
        "Port for TLS configuration must be unique within the Gateway" => twins(
            value,
            path,
            |tls| tls["port"].clone(),
            "port",
            |tls, first| format!("{first} is for port {} already; remove one of them", tls["port"]),
        ),
        "certificateRefs or options must be specified when mode is Terminate" => {
            vec![Problem::new(path.field("certificateRefs"), "mode Terminate needs a certificate")]
        }
        "IPAddress values must be unique" | "Hostname values must be unique" => {
            let key = |address: &Value| [address["type"].clone(), address["value"].clone()];
            twins(value, path, key, "value", |address, first| {
                format!("{first} is {} already; remove one of them", text(&address["value"]))
            })
        }
        _ if message.starts_with("sectionName or port must be")
            || message.starts_with("sectionName must be") =>
        {
            let fields = ["group", "kind", "namespace", "name"];
            let key = |reference: &Value| fields.map(|field| reference[field].clone());
            twins(value, path, key, "name", |_, first| {
                format!(
                    "{first} names the same object; tell both apart by sectionName, or remove one"
                )
            })
        }
        "must specify either CACertificateRefs or WellKnownCACertificates" => {
            let message = "needs caCertificateRefs, or wellKnownCACertificates: System";
            vec![Problem::new(path.clone(), message)]
        }
        "must not contain both CACertificateRefs and WellKnownCACertificates" => {
            let message = "has caCertificateRefs and wellKnownCACertificates; remove one of them";
            vec![Problem::new(path.field("wellKnownCACertificates"), message).at_key()]
        }
        "Must have port for Service reference" => {
            vec![Problem::new(path.field("port"), "is required for a Service, and missing")]
        }
        "Hostnames cannot contain an IP"
        | "Hostnames must be valid based on RFC-1123"
        | "Wildcards on hostnames must be the first label, and the rest of hostname must be valid based on RFC-1123" =>
        {
            let is_wrong = |hostname: &Value| !is_hostname(text(hostname));
            let message =
                "must be a DNS name in lower case, which may start with `*.`, and no address";
            each(value, path, |it| is_wrong(it).then(|| ("", message.to_owned())))
        }
        SERVICE_PORT_NAMES => port_names(&value["ports"], &path.field("ports")),
        SLICE_PORT_NAMES => port_names(&value["ports"], &path.field("ports")),
        SERVICE_PORTS => vec![Problem::new(path.field("ports"), message)],
        EXTERNAL_NAME => vec![Problem::new(path.field("externalName"), message)],
        _ => Vec::new(),
    }
}

// As our own schemas say it.
const SERVICE_PORT_NAMES: &str = "where there is more than one port, each needs a name of its own";
const SLICE_PORT_NAMES: &str = "each port needs a name of its own";
const SERVICE_PORTS: &str =
    "needs at least one port, unless it is headless (clusterIP None) or of type ExternalName";
const EXTERNAL_NAME: &str = "a Service of type ExternalName needs an externalName";

fn port_names(ports: &Value, path: &Path) -> Vec<Problem> {
    let nameless = each(ports, path, |port| {
        let message = "is required where there is more than one port, and missing";
        text(&port["name"]).is_empty().then(|| ("name", message.to_owned()))
    });
    if !nameless.is_empty() {
        return nameless;
    }
    twins(
        ports,
        path,
        |port| port["name"].clone(),
        "name",
        |port, first| {
            format!(
                "{first} has the name {:?} already; give each one of its own",
                text(&port["name"])
            )
        },
    )
}

/// A problem for each item of a list that has one: at which of its fields, and what.
fn each(
    list: &Value,
    path: &Path,
    wrong: impl Fn(&Value) -> Option<(&'static str, String)>,
) -> Vec<Problem> {
    let items = list.as_array().into_iter().flatten().enumerate();
    let problem = |(index, item): (usize, &Value)| {
        let (field, message) = wrong(item)?;
        Some(Problem::new(at(&path.index(index), field), message))
    };
    items.filter_map(problem).collect()
}

/// A problem for each item of a list that has the same key as one before it, which `message` names.
fn twins<K: PartialEq>(
    list: &Value,
    path: &Path,
    key: impl Fn(&Value) -> K,
    field: &str,
    message: impl Fn(&Value, &Path) -> String,
) -> Vec<Problem> {
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    let problem = |(index, item): (usize, &Value)| {
        let first = items[..index].iter().position(|other| key(other) == key(item))?;
        let message = message(item, &path.index(first));
        Some(Problem::new(at(&path.index(index), field), message))
    };
    items.iter().enumerate().filter_map(problem).collect()
}

fn at(path: &Path, field: &str) -> Path {
    if field.is_empty() { path.clone() } else { path.field(field) }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn is_hostname(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name).split('.');
    let is_label = |label: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.parse::<std::net::IpAddr>().is_err() && labels.clone().all(is_label)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn explained(object: &Value, path: &str, message: &str) -> Vec<String> {
        let problems = explain(object, &Path::parse(path), message);
        problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect()
    }

    #[test]
    fn the_entry_that_is_wrong_is_named() {
        let listener =
            |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP"});
        let gateway = json!({"listeners": [listener("a", 1), listener("b", 2), listener("c", 1)]});
        let rule = "Combination of port, protocol and hostname must be unique for each listener";
        assert_eq!(
            explained(&gateway, "listeners", rule),
            ["listeners[2].port: listeners[0] is on port 1 with TCP already; change one of them"]
        );
        let service = json!({"spec": {"ports": [{"name": "a", "port": 1}, {"port": 2}]}});
        assert_eq!(
            explained(&service, "spec", SERVICE_PORT_NAMES),
            ["spec.ports[1].name: is required where there is more than one port, and missing"]
        );
        let service = json!({"spec": {"ports": [{"name": "a"}, {"name": "a"}]}});
        assert_eq!(
            explained(&service, "spec", SERVICE_PORT_NAMES),
            [
                "spec.ports[1].name: spec.ports[0] has the name \"a\" already; give each one of its own"
            ]
        );
        assert_eq!(explained(&service, "spec", "any rule"), ["spec: any rule"]);
        assert_eq!(explained(&service, "gone", rule), [format!("gone: {rule}")]);
    }

    #[test]
    fn messages_of_our_schemas_are_as_they_are_known_here() {
        let service = include_str!("../../schemas/service.yaml");
        let slice = include_str!("../../schemas/endpointslice.yaml");
        for message in [SERVICE_PORT_NAMES, SERVICE_PORTS, EXTERNAL_NAME] {
            assert!(service.contains(message), "{message}");
        }
        assert!(slice.contains(SLICE_PORT_NAMES));
    }

    #[test]
    fn rules_of_the_vendored_crds_are_as_they_are_known_here() {
        let listeners = json!([
            {"port": 1, "protocol": "TCP", "hostname": "a", "tls": {}},
            {"port": 1, "protocol": "TCP", "hostname": "a"},
            {"port": 2, "protocol": "HTTPS", "tls": {"mode": "Passthrough"}},
            {"port": 3, "protocol": "TLS"},
        ]);
        let gateways = include_str!("../../crds/experimental/gateways.json");
        for rule in [
            "Combination of port, protocol and hostname must be unique for each listener",
            "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
            "hostname must not be specified for protocols ['TCP', 'UDP']",
            "tls mode must be Terminate for protocol HTTPS",
            "tls mode must be set for protocol TLS",
        ] {
            assert!(gateways.contains(rule), "{rule}");
            let told = explained(&json!({ "l": listeners }), "l", rule);
            assert!(
                told.iter().all(|line| line.starts_with("l[") && !line.contains(rule)),
                "{told:?}"
            );
        }
    }
}
