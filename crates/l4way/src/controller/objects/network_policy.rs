//! Who may open connections to a Gateway's proxies: everybody to its listeners, some to its metrics. What the
//! proxies open themselves isn't restricted: backends are wherever routes say, their pods change faster than
//! policies are enforced, and a policy can't name the API server.

use std::collections::BTreeMap;

use l4way_model::Transport;
use l4way_translate::POD_ADMIN_PORT;
use serde_json::{Value, json};

use super::{Common, Kind, Object, Settings};

/// The annotation with the ports of listeners that are gone: until when their sessions may go on, in seconds of
/// Unix time, by `PROTOCOL/PORT`.
const LEAVING: &str = "l4way.dev/leaving-ports";

/// A port, and what carries it.
pub(crate) type Port = (u16, Transport);

/// The ports of listeners that are gone, which their sessions may still use: until when, in seconds of Unix
/// time. That isn't known as long as a proxy may have the listener.
pub(crate) type Leaving = BTreeMap<Port, Option<i64>>;

/// Who may read metrics, where Gateways are to have NetworkPolicies: NetworkPolicyPeers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricsFrom(Vec<Value>);

impl MetricsFrom {
    /// Reads a list in JSON. What is in its items is the API server's to check.
    ///
    /// # Errors
    /// If it isn't one, or empty: in a policy, nobody means everybody.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let peers: Vec<Value> =
            serde_json::from_str(text).map_err(|error| format!("isn't a JSON list: {error}"))?;
        let is_peer = |peer: &Value| peer.as_object().is_some_and(|peer| !peer.is_empty());
        if peers.is_empty() || !peers.iter().all(is_peer) {
            return Err(r#"has to name peers, such as [{"namespaceSelector": {}}]"#.to_owned());
        }
        Ok(Self(peers))
    }
}

/// Whether a Gateway is to have a NetworkPolicy, and it would have an effect: Kubernetes leaves open what
/// becomes of one for pods in the host network, and mostly nothing does.
pub(crate) fn is_wanted(common: &Common<'_>, settings: &Settings) -> bool {
    settings.metrics_from.is_some() && common.provision.parameters.host_network != Some(true)
}

/// The policy, if there is to be one. Probes come from the pod's node, which no policy keeps out.
pub(super) fn policy(
    common: &Common<'_>,
    settings: &Settings,
    leaving: &Leaving,
) -> Option<Object> {
    let MetricsFrom(peers) = settings.metrics_from.as_ref()?;
    if !is_wanted(common, settings) {
        return None;
    }
    let mut ports = leaving.clone();
    ports.extend(common.provision.ports.iter().map(|port| (*port, None)));
    let open: Vec<_> = ports.keys().map(|port| entry(*port)).collect();
    let metrics = json!({"from": peers, "ports": [entry((POD_ADMIN_PORT, Transport::Tcp))]});
    // A rule without ports would be for all.
    let listeners = (!open.is_empty()).then(|| json!({ "ports": open }));
    let ingress: Vec<_> = listeners.into_iter().chain([metrics]).collect();
    let spec = json!({
        "podSelector": {"matchLabels": common.selector()},
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    });
    let mut policy = common.named(Kind::NetworkPolicy, json!({ "spec": spec }));
    let until: BTreeMap<_, _> =
        ports.iter().filter_map(|(port, until)| Some((name(*port), (*until)?))).collect();
    if !until.is_empty() {
        policy.value["metadata"]["annotations"][LEAVING] = json!(until).to_string().into();
    }
    Some(policy)
}

/// The ports that a policy admits from everywhere though no listener has them, and until when, as it says.
/// Those whose time has come, at `now`, aren't among them.
pub(crate) fn leaving(common: &Common<'_>, policy: &Value, now: i64) -> Leaving {
    let until = policy["metadata"]["annotations"][LEAVING].as_str();
    let until: BTreeMap<String, i64> =
        until.and_then(|until| serde_json::from_str(until).ok()).unwrap_or_default();
    let gone = admitted(policy).filter(|port| !common.provision.ports.contains(port));
    gone.map(|port| (port, until.get(&name(port)).copied()))
        .filter(|(_, until)| until.is_none_or(|until| until > now))
        .collect()
}

/// A port that a listener has and the policy doesn't admit.
pub(crate) fn closed(common: &Common<'_>, policy: &Value) -> Option<String> {
    let admitted: Vec<_> = admitted(policy).collect();
    let mut ports = common.provision.ports.iter();
    ports.find(|port| !admitted.contains(port)).map(|port| name(*port))
}

/// The ports that a policy of ours admits from everywhere.
fn admitted(policy: &Value) -> impl Iterator<Item = Port> {
    let rules = policy["spec"]["ingress"].as_array().into_iter().flatten();
    let open = rules.filter(|rule| rule["from"].as_array().is_none_or(Vec::is_empty));
    let ports = open.filter_map(|rule| rule["ports"].as_array()).flatten();
    ports.filter_map(|port| {
        let transport = match port["protocol"].as_str()? {
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            _ => return None,
        };
        let number = u16::try_from(port["port"].as_u64()?).ok()?;
        // Which no listener ever has.
        let is_admin = (number, transport) == (POD_ADMIN_PORT, Transport::Tcp);
        (!is_admin).then_some((number, transport))
    })
}

fn entry((port, transport): Port) -> Value {
    json!({"port": port, "protocol": transport.to_string()})
}

fn name((port, transport): Port) -> String {
    format!("{transport}/{port}")
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{names_of, settings, small},
        *,
    };

    fn guarded() -> Settings {
        let peers = r#"[{"namespaceSelector": {"matchLabels": {"monitoring": "true"}}}]"#;
        Settings { metrics_from: Some(MetricsFrom::parse(peers).unwrap()), ..settings() }
    }

    fn made(provision: &l4way_translate::Provision, leaving: &Leaving) -> Value {
        policy(&Common::new(provision, &names_of(provision)), &guarded(), leaving).unwrap().value
    }

    #[test]
    fn listeners_are_for_everybody_and_metrics_for_some() {
        let policy = made(&small(), &Leaving::new());
        let spec = json!({
            "podSelector": {"matchLabels": Common::new(&small(), &names_of(&small())).selector()},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 9000, "protocol": "TCP"}]},
                {
                    "from": [{"namespaceSelector": {"matchLabels": {"monitoring": "true"}}}],
                    "ports": [{"port": POD_ADMIN_PORT, "protocol": "TCP"}],
                },
            ],
        });
        assert_eq!(policy["spec"], spec);
    }

    #[test]
    fn without_listeners_no_port_is_open() {
        let mut provision = small();
        provision.ports.clear();
        let policy = made(&provision, &Leaving::new());
        let rules = policy["spec"]["ingress"].as_array().unwrap();
        assert!(rules.len() == 1 && rules[0]["from"].is_array(), "{policy}");
    }

    #[test]
    fn there_is_none_unless_it_is_asked_for_and_has_an_effect() {
        let mut provision = small();
        assert!(
            policy(&Common::new(&provision, &names_of(&provision)), &settings(), &Leaving::new())
                .is_none()
        );
        provision.parameters.host_network = Some(true);
        assert!(
            policy(&Common::new(&provision, &names_of(&provision)), &guarded(), &Leaving::new())
                .is_none()
        );
    }

    #[test]
    fn a_removed_listeners_port_stays_until_its_time_has_come() {
        let before = made(&small(), &Leaving::new());
        let mut provision = small();
        provision.ports = [(53, Transport::Udp), (9100, Transport::Tcp)].into();
        let names = names_of(&provision);
        let common = Common::new(&provision, &names);
        let gone = (9000, Transport::Tcp);

        let found = leaving(&common, &before, 100);
        assert_eq!(found, [(gone, None)].into(), "nobody has said until when");
        assert_eq!(leaving(&common, &made(&provision, &found), 100), found);

        let dated = made(&provision, &[(gone, Some(160))].into());
        assert_eq!(leaving(&common, &dated, 159), [(gone, Some(160))].into());
        assert_eq!(leaving(&common, &dated, 160), Leaving::new());
        // Its listener is back.
        assert_eq!(
            leaving(&Common::new(&small(), &names_of(&small())), &dated, 159),
            [((9100, Transport::Tcp), None)].into()
        );
    }

    #[test]
    fn a_listener_whose_port_is_closed_is_found() {
        let policy = made(&small(), &Leaving::new());
        assert_eq!(closed(&Common::new(&small(), &names_of(&small())), &policy), None);
        let mut provision = small();
        provision.ports.insert((9100, Transport::Tcp));
        assert_eq!(
            closed(&Common::new(&provision, &names_of(&provision)), &policy).unwrap(),
            "TCP/9100"
        );
    }

    #[test]
    fn what_others_write_into_a_policy_opens_nothing_for_long() {
        let mut foreign = made(&small(), &Leaving::new());
        let rules = foreign["spec"]["ingress"].as_array_mut().unwrap();
        rules[1].as_object_mut().unwrap().remove("from");
        rules.push(json!({}));
        rules.push(json!({"ports": [{"port": "http", "protocol": "TCP"}, {"protocol": "SCTP", "port": 7}]}));
        foreign["metadata"]["annotations"][LEAVING] = "no JSON".into();
        assert_eq!(
            leaving(&Common::new(&small(), &names_of(&small())), &foreign, 100),
            Leaving::new()
        );
    }

    #[test]
    fn peers_are_named() {
        for bad in ["", "{}", "[]", "[{}]", "[1]"] {
            assert!(MetricsFrom::parse(bad).is_err(), "{bad}");
        }
        assert!(MetricsFrom::parse(r#"[{"ipBlock": {"cidr": "192.0.2.0/24"}}]"#).is_ok());
    }
}
