//! What of a Gateway is running, as its objects tell: who has confirmed what, and on which addresses.
//! No I/O.

mod address;
mod pod;
pub(crate) mod proxy;

use std::{collections::BTreeMap, sync::Arc};

use l4way_delivery::{EndpointSummary, Names};
use l4way_model::{ApplyReport, Config, ListenerReport, PathReport};
use l4way_resources::{api::ObjectKey, status::StatusAddress};
use l4way_translate::Provision;
use serde_json::Value;

pub(crate) use self::{
    address::of_proxies,
    pod::{is_ready, live_pods},
    proxy::Delivered,
};
use super::{
    objects::{Common, Kind, ObjectNames, ServiceType, is_local, network_policy, service_type},
    ownership::Owned,
};

/// How the proxies of a Gateway stand to what was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Every ready one runs it.
    Confirmed,
    /// Some ready one has still to say so: who.
    Unconfirmed(String),
    /// Some ready one can't take it, and still serves what was before: who, and why.
    Refused(String),
    /// No one is ready: why.
    NoneReady(String),
}

/// How the ready proxies stand to what was delivered, and what they report of it together.
pub(crate) fn standing(
    names: &ObjectNames,
    owned: &Owned,
    config: &Config,
    delivered: Delivered<'_>,
) -> (Standing, ApplyReport) {
    let mut report = ApplyReport::default();
    let (mut ready, mut unconfirmed, mut refusing) = (0, None, Vec::new());
    for (key, pod) in pods(owned).filter(|(_, pod)| is_ready(pod)) {
        ready += 1;
        let answer = proxy::answer(&names.documents, owned, key, pod);
        refusing.extend(proxy::why_refused(key, &answer, delivered));
        match answer.acknowledgement {
            Some(said) if said.hash == delivered.config => {
                if said.keys.as_deref() != delivered.keys {
                    unconfirmed =
                        Some(format!("Pod {key} has not confirmed the latest certificates"));
                }
                add(&mut report, said.report(config.listener_ids()));
            }
            Some(said) => {
                // What is refused stays so until it is known better.
                report.refused_backends.extend(said.refused_backends);
                unconfirmed = Some(format!(
                    "Pod {key} has not confirmed the configuration; it still runs an earlier one"
                ));
            }
            None => unconfirmed = Some(format!("Pod {key} has not confirmed the configuration")),
        }
    }
    let standing = match (ready, refusing.split_first(), unconfirmed) {
        (0, ..) => Standing::NoneReady(pod::why_none_is_ready(names, owned, delivered)),
        (_, Some((first, [])), _) => Standing::Refused(first.clone()),
        (_, Some((first, others)), _) => Standing::Refused(format!(
            "{first} The same is true of {} more of the Gateway's pods.",
            others.len()
        )),
        (_, None, Some(who)) => Standing::Unconfirmed(who),
        (_, None, None) => Standing::Confirmed,
    };
    (standing, report)
}

/// What the Gateway's running proxies say of endpoints that they pass over.
pub(crate) fn endpoint_summaries(
    names: &Names,
    owned: &Owned,
) -> impl Iterator<Item = EndpointSummary> {
    let running = pods(owned).filter(|(_, pod)| is_ready(pod));
    running.map(|(key, pod)| proxy::answer(names, owned, key, pod).endpoints)
}

/// The Gateway's pods.
pub(crate) fn pods(owned: &Owned) -> impl Iterator<Item = (&ObjectKey, &Arc<Value>)> {
    owned.iter().filter(|((kind, _), _)| *kind == Kind::Pod).map(|((_, key), pod)| (key, pod))
}

/// The Gateway's NetworkPolicy.
pub(crate) fn network_policy<'a>(common: &Common<'_>, owned: &'a Owned) -> Option<&'a Arc<Value>> {
    let name = common.names.of(Kind::NetworkPolicy);
    let key = ObjectKey::new(common.provision.gateway.namespace.clone(), name);
    owned.get(&(Kind::NetworkPolicy, key))
}

/// Which listener the Gateway's NetworkPolicy keeps clients from, if there is such a policy and it does: a
/// sentence. Clients wait in vain there, whatever proxies do.
pub(crate) fn closed_port(common: &Common<'_>, owned: &Owned) -> Option<String> {
    let port = network_policy::closed(common, network_policy(common, owned)?)?;
    let key = &common.provision.gateway;
    let name = common.names.of(Kind::NetworkPolicy);
    Some(format!("NetworkPolicy {}/{name} doesn't admit {port} yet", key.namespace))
}

/// How long the Gateway's pods may take to end at most, in seconds.
pub(crate) fn grace_seconds(owned: &Owned) -> i64 {
    // The API server's default, which our pods never have.
    const DEFAULT: i64 = 30;
    let grace = |pod: &Value| pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    pods(owned).map(|(_, pod)| grace(pod).unwrap_or(DEFAULT)).max().unwrap_or(0)
}

/// Adds what one more proxy reports: what failed anywhere has failed.
fn add(report: &mut ApplyReport, other: ApplyReport) {
    for (id, other) in other.listeners {
        let entry = report.listeners.entry(id).or_insert(ListenerReport::Bound);
        if let ListenerReport::Failed(_) = other {
            *entry = other;
        }
    }
    report.refused_backends.extend(other.refused_backends);
    for (id, path) in other.paths {
        // What one proxy can't give its kernel is worth telling.
        if report.paths.get(&id).is_none_or(|path| *path == PathReport::Kernel) {
            report.paths.insert(id, path);
        }
    }
}

/// Where a Gateway is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) addresses: Vec<StatusAddress>,
    /// Why there is no address.
    pub(crate) pending: Option<String>,
    /// What is to be known of sessions that come this way.
    pub(crate) note: Option<String>,
}

/// Where the Gateway is reached. `why_not` is why its Service can't be as it should, or what was said
/// last about it.
pub(crate) fn reach(
    common: &Common<'_>,
    owned: &Owned,
    nodes: &BTreeMap<ObjectKey, Arc<Value>>,
    why_not: Option<&str>,
) -> Reach {
    let Provision { gateway, parameters, ports, .. } = common.provision;
    let key = ObjectKey::new(gateway.namespace.clone(), common.names.of(Kind::Service));
    let service = owned.get(&(Kind::Service, key.clone()));
    let kind = service_type(parameters);
    let addresses = match (kind, service) {
        (ServiceType::HostNetwork, _) => address::of_nodes(nodes, Some(owned)),
        (_, None) => Vec::new(),
        (ServiceType::LoadBalancer, Some(service)) => address::of_ingress(service),
        (ServiceType::ClusterIp, Some(service)) => address::of_cluster(service),
        (ServiceType::NodePort, Some(_)) => {
            address::of_nodes(nodes, is_local(parameters).then_some(owned))
        }
    };
    let pending = addresses.is_empty().then(|| match (kind, service) {
        (ServiceType::HostNetwork, _) => {
            "The Gateway is on its nodes' addresses, and no node has a proxy that is ready."
                .to_owned()
        }
        (_, None) if ports.is_empty() => {
            "The Gateway has no Service, and so no address: no listener has a valid port."
                .to_owned()
        }
        (_, None) => why_not.map_or_else(|| format!("Service {key} is being made."), str::to_owned),
        (_, Some(_)) => address::why_pending(kind, &key, why_not),
    });
    let hides =
        matches!(kind, ServiceType::LoadBalancer | ServiceType::NodePort) && !is_local(parameters);
    let note = hides.then(|| {
        "Applications don't see clients' addresses: the Service's externalTrafficPolicy is Cluster."
            .to_owned()
    });
    Reach { addresses, pending, note }
}

#[cfg(test)]
mod tests;
