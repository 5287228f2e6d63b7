//! BackendTLSPolicies: which backends are spoken to in TLS, and how.
//!
//! A backend's policy is the oldest one that names the part of it that is meant, a Service's port, and
//! else the oldest that names all of it. One that can't be honoured is in force all the same: nothing
//! is sent in the clear that somebody wants encrypted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use l4way_model::{AlternativeName, Authorities, BackendTls};
use l4way_resources::{
    L4WAY_GROUP, Severity, Snapshot,
    api::{BackendTlsPolicy, ObjectKey, PolicyTargetRef, RouteKind, SubjectAltName, TlsMode},
};

use super::{
    Certificates, GatewayNode, ListenerSetNode, Protocol, Referrer, RouteKey, RouteNode,
    certificate::Defect,
    gateway::ClientCertificate,
    parent::{Parent, ParentNode},
    refused,
};
use crate::{
    conditions::{ACCEPTED, policy as outcomes},
    finding::Findings,
    suggest,
};

/// A BackendTLSPolicy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyNode {
    pub(crate) object: Arc<BackendTlsPolicy>,
    /// How TLS is spoken, but for what the Gateway shows; `None` if it can't be as the policy wants.
    pub(crate) tls: Option<Arc<BackendTls>>,
    /// The Gateways that send, or would send, something to its backends.
    pub(crate) gateways: BTreeSet<ObjectKey>,
    /// It is invalid: nothing is sent to its backends.
    pub(crate) is_refused: bool,
    pub(crate) findings: Findings,
}

impl PolicyNode {
    /// What it says of the targets that aren't there, if that is what keeps it from being accepted.
    pub(crate) fn missing_target(&self) -> Option<&str> {
        let accepted = self.findings.outcome(ACCEPTED)?;
        (accepted.reason == outcomes::TARGET_NOT_FOUND).then_some(&*accepted.message)
    }
}

/// What a policy is for: a kind that can be a backend, the object, and a part of it by name.
type Target<'a> = (&'a str, ObjectKey, Option<&'a str>);

/// A policy that names an object, and the part of it that it names.
type Naming<'a> = (ObjectKey, Option<&'a str>);

/// The policies, and what they are for.
pub(crate) struct Policies<'a> {
    nodes: BTreeMap<ObjectKey, PolicyNode>,
    /// The policy in force for each target.
    in_force: HashMap<Target<'a>, ObjectKey>,
    /// All that name an object or a part of it.
    naming: HashMap<(&'a str, ObjectKey), Vec<Naming<'a>>>,
}

/// The policies that are about one backend, or port of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfBackend {
    /// The one that is in force.
    pub(crate) in_force: Option<ObjectKey>,
    /// All of them.
    pub(crate) all: Vec<ObjectKey>,
}

impl<'a> Policies<'a> {
    /// Reads the policies of a snapshot, and those of it that can't be used.
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        refused: &'a [Arc<BackendTlsPolicy>],
        certificates: &Certificates<'_>,
    ) -> Self {
        let mut policies =
            Self { nodes: BTreeMap::new(), in_force: HashMap::new(), naming: HashMap::new() };
        let valid = snapshot.backend_tls_policies.values().map(|policy| (policy, false));
        let refused = refused.iter().map(|policy| (policy, true));
        let mut oldest_first: Vec<_> = valid.chain(refused).collect();
        oldest_first.sort_by(|(a, _), (b, _)| a.metadata.age_order().cmp(&b.metadata.age_order()));
        for (policy, is_refused) in oldest_first {
            policies.add(policy, is_refused, snapshot, certificates);
        }
        policies
    }

    fn add(
        &mut self,
        policy: &'a Arc<BackendTlsPolicy>,
        is_refused: bool,
        snapshot: &Snapshot,
        certificates: &Certificates<'_>,
    ) {
        let key = policy.metadata.key();
        let mut findings = Findings::default();
        for (index, reference) in policy.spec.target_refs.iter().enumerate() {
            let pointer = format!("/spec/targetRefs/{index}/name");
            let Some(kind) = kind(reference) else {
                let message = format!(
                    "{} of group {:?} can't be a backend of l4way's; use a Service, or a Backend of \
                     group {L4WAY_GROUP}{}",
                    reference.kind,
                    reference.group,
                    suggest::of_group(&reference.group)
                );
                findings.error(pointer, [outcomes::target_not_found(message)]);
                continue;
            };
            let object = ObjectKey::new(key.namespace.clone(), reference.name.clone());
            let section = reference.section_name.as_deref();
            if let Err(message) = find(snapshot, kind, &object, section) {
                let outcome = outcomes::target_not_found(message);
                if snapshot.refused(kind, &object).is_some() {
                    findings.told(outcome);
                } else {
                    findings.error(pointer.clone(), [outcome]);
                }
            }
            let named = self.naming.entry((kind, object.clone())).or_default();
            named.push((key.clone(), section));
            let target = (kind, object.clone(), section);
            match self.in_force.get(&target) {
                None => drop(self.in_force.insert(target, key.clone())),
                // It names the target twice, which older CRDs let through.
                Some(winner) if *winner == key => {}
                Some(winner) => {
                    let winner = &self.nodes[winner].object;
                    let message = conflict(policy, winner, kind, &object, section);
                    findings.error(pointer, [outcomes::conflicted(message)]);
                }
            }
        }
        let tls = if is_refused { None } else { read(policy, certificates, &mut findings) };
        let (object, gateways) = (policy.clone(), BTreeSet::new());
        let node = PolicyNode { object, tls, gateways, is_refused, findings };
        self.nodes.insert(key, node);
    }

    /// The policies that are about a backend, or about its port of this name.
    pub(crate) fn of(&self, kind: &str, object: &ObjectKey, port: Option<&str>) -> OfBackend {
        let Some(naming) = self.naming.get(&(kind, object.clone())) else {
            return OfBackend::default();
        };
        let target = |section| self.in_force.get(&(kind, object.clone(), section)).cloned();
        let of_port = port.and_then(|port| target(Some(port)));
        // A part that isn't there is nobody's, so whoever sends to the object should know.
        let is_unknown = |key: &ObjectKey| self.nodes[key].missing_target().is_some();
        let about = naming
            .iter()
            .filter(|(key, part)| part.is_none() || *part == port || is_unknown(key))
            .map(|(key, _)| key.clone());
        OfBackend { all: about.collect(), in_force: of_port.or_else(|| target(None)) }
    }

    /// The policies, told which Gateways they are about, and the routes, told what is refused for
    /// them.
    pub(crate) fn relate(
        mut self,
        routes: &mut BTreeMap<RouteKey, RouteNode>,
        gateways: &BTreeMap<ObjectKey, GatewayNode>,
        listener_sets: &BTreeMap<ObjectKey, ListenerSetNode>,
    ) -> BTreeMap<ObjectKey, PolicyNode> {
        for route in routes.values_mut() {
            let senders: BTreeSet<_> = route
                .parents
                .iter()
                .filter_map(|parent| sender(route.kind, parent, gateways, listener_sets))
                .collect();
            if senders.is_empty() {
                continue;
            }
            for target in &route.targets {
                for policy in &target.policies.all {
                    if let Some(node) = self.nodes.get_mut(policy) {
                        node.gateways.extend(senders.iter().map(|gateway| (*gateway).clone()));
                    }
                }
                let in_force = target.policies.in_force.as_ref();
                let Some(policy) = in_force.and_then(|key| self.nodes.get(key)) else { continue };
                for why in refusals(policy, &senders, gateways) {
                    let message = format!("{why}: its share of the sessions is refused");
                    route.findings.note(Severity::Error, &*target.pointer, message);
                }
            }
        }
        self.nodes
    }
}

/// Why sessions to a backend that has this policy are refused, by some of these Gateways.
fn refusals(
    policy: &PolicyNode,
    senders: &BTreeSet<&ObjectKey>,
    gateways: &BTreeMap<ObjectKey, GatewayNode>,
) -> Vec<String> {
    let key = policy.object.metadata.key();
    if policy.is_refused {
        return vec![format!("BackendTLSPolicy {key} is invalid")];
    }
    if policy.tls.is_none() {
        return vec![format!("BackendTLSPolicy {key} can't be honoured; see its status")];
    }
    let lacks_certificate = |gateway: &&&ObjectKey| {
        let node = gateways.get(**gateway);
        node.is_some_and(|node| matches!(node.client_certificate, ClientCertificate::Unusable))
    };
    let refusing = senders.iter().filter(lacks_certificate);
    let refusals = refusing.map(|gateway| {
        format!(
            "BackendTLSPolicy {key} asks for TLS, and Gateway {gateway} can't show the client \
             certificate that it names; see its status"
        )
    });
    refusals.collect()
}

/// The Gateway of a parent whose listeners send a route's sessions on in the proxy's own words: not
/// datagrams, nor the client's own TLS.
fn sender<'a>(
    kind: RouteKind,
    parent: &'a ParentNode,
    gateways: &'a BTreeMap<ObjectKey, GatewayNode>,
    listener_sets: &'a BTreeMap<ObjectKey, ListenerSetNode>,
) -> Option<&'a ObjectKey> {
    let (gateway, listeners) = match &parent.parent {
        Parent::Gateway(key) => (key, &gateways.get(key)?.listeners),
        Parent::ListenerSet(key) => {
            let set = listener_sets.get(key)?;
            (&set.gateway, &set.listeners)
        }
    };
    let originates = |protocol| match protocol {
        Some(Protocol::Tls(mode)) => mode == TlsMode::Terminate,
        _ => kind != RouteKind::Udp,
    };
    let mut attached = parent.listeners.iter().filter_map(|index| listeners.get(*index));
    attached.any(|listener| originates(listener.protocol)).then_some(gateway)
}

/// The kind that a reference names, if it can be a backend.
fn kind(reference: &PolicyTargetRef) -> Option<&'static str> {
    match (&*reference.group, &*reference.kind) {
        ("", "Service") => Some("Service"),
        (L4WAY_GROUP, "Backend") => Some("Backend"),
        _ => None,
    }
}

/// Whether a target is there.
///
/// # Errors
/// What isn't, and what may be meant.
fn find(
    snapshot: &Snapshot,
    kind: &str,
    key: &ObjectKey,
    section: Option<&str>,
) -> Result<(), String> {
    let missing = |names: &mut dyn Iterator<Item = &ObjectKey>| {
        let beside = names.filter(|other| other.namespace == key.namespace);
        let hint = suggest::did_you_mean(&key.name, beside.map(|other| &*other.name));
        let why = refused::why_missing(snapshot, kind, key, || hint);
        format!("{kind} {key} {why}")
    };
    let names: Vec<_> = if kind == "Service" {
        let service = snapshot.services.get(key);
        let service = service.ok_or_else(|| missing(&mut snapshot.services.keys()))?;
        service.spec.ports.iter().map(|port| &*port.name).collect()
    } else {
        let backend = snapshot.backends.get(key);
        backend.ok_or_else(|| missing(&mut snapshot.backends.keys()))?;
        Vec::new()
    };
    match section.filter(|section| !names.contains(section)) {
        None => Ok(()),
        Some(_) if names.is_empty() => {
            Err(format!("{kind} {key} has no parts that a sectionName could name; remove it"))
        }
        Some(section) => Err(format!(
            "{kind} {key} has no port {section:?}{}; its ports are {}",
            suggest::did_you_mean(section, names.iter().copied()),
            suggest::list(names)
        )),
    }
}

fn conflict(
    loser: &BackendTlsPolicy,
    winner: &BackendTlsPolicy,
    kind: &str,
    object: &ObjectKey,
    section: Option<&str>,
) -> String {
    let why = if loser.metadata.creation_timestamp == winner.metadata.creation_timestamp {
        "comes first by namespace and name"
    } else {
        "is older"
    };
    let part = section.map(|section| format!("port {section:?} of ")).unwrap_or_default();
    format!(
        "{part}{kind} {object} has BackendTLSPolicy {} already, which {why}; remove one of the two",
        winner.metadata.key()
    )
}

/// What a policy asks for, if that can be had.
fn read(
    policy: &BackendTlsPolicy,
    certificates: &Certificates<'_>,
    findings: &mut Findings,
) -> Option<Arc<BackendTls>> {
    for option in policy.spec.options.keys() {
        let message = format!("TLS option {option:?} is not known: l4way has none here; remove it");
        findings.error("/spec/options", [outcomes::invalid(message)]);
    }
    let alternative_names = alternative_names(policy, findings);
    let authorities = authorities(policy, certificates, findings);
    if !policy.spec.options.is_empty() {
        return None;
    }
    Some(Arc::new(BackendTls {
        server_name: policy.spec.validation.hostname.to_ascii_lowercase().into(),
        alternative_names: alternative_names?,
        authorities: authorities?,
        client_certificate: None,
    }))
}

/// The names of which one has to be in the certificate; `None` if one can't be looked for.
fn alternative_names(
    policy: &BackendTlsPolicy,
    findings: &mut Findings,
) -> Option<Vec<AlternativeName>> {
    let names = policy.spec.validation.subject_alt_names.iter().enumerate();
    let names = names.map(|(index, SubjectAltName { kind, hostname, uri })| {
        let name = match (&**kind, hostname, uri) {
            ("Hostname", Some(name), _) if !name.starts_with('*') => {
                Ok(AlternativeName::Dns(name.to_ascii_lowercase().into()))
            }
            ("Hostname", Some(name), _) => Err((
                "hostname",
                format!("{name:?} is a wildcard, which l4way doesn't look for; name a host"),
            )),
            ("URI", _, Some(uri)) => Ok(AlternativeName::Uri(uri.clone())),
            _ => Err(("type", format!("type {kind:?} is not supported; use Hostname or URI"))),
        };
        name.map_err(|(field, message)| {
            let pointer = format!("/spec/validation/subjectAltNames/{index}/{field}");
            findings.error(pointer, [outcomes::invalid(message)]);
        })
    });
    // Each is told.
    let names: Vec<_> = names.collect();
    names.into_iter().collect::<Result<_, ()>>().ok()
}

/// Who may have signed the certificate; `None` if nobody is known.
fn authorities(
    policy: &BackendTlsPolicy,
    certificates: &Certificates<'_>,
    findings: &mut Findings,
) -> Option<Authorities> {
    let validation = &policy.spec.validation;
    if validation.ca_certificate_refs.is_empty() {
        return match validation.well_known_ca_certificates.as_deref() {
            Some("System") => Some(Authorities::System),
            other => {
                let message = match other {
                    Some(other) => format!("authorities {other:?} are not known; use System"),
                    None => "names no authorities; name some, or System".to_owned(),
                };
                let pointer = "/spec/validation/wellKnownCACertificates";
                findings.error(pointer, [outcomes::invalid(message)]);
                None
            }
        };
    }
    let referrer = Referrer { kind: "BackendTLSPolicy", namespace: &policy.metadata.namespace };
    let references = &validation.ca_certificate_refs;
    let (authorities, defects) = certificates.all_authorities(referrer, references);
    for (index, defect) in defects {
        let outcome = match defect {
            Defect::Kind(message) => outcomes::invalid_kind(message),
            Defect::NotPermitted(message) | Defect::Invalid(message) => {
                outcomes::invalid_ca_certificate_ref(message)
            }
            Defect::Refused(message) => {
                findings.told(outcomes::invalid_ca_certificate_ref(message));
                continue;
            }
        };
        let pointer = format!("/spec/validation/caCertificateRefs/{index}");
        findings.error(pointer, [outcome]);
    }
    if authorities.is_none() {
        let message = "There is no certificate to check those of backends against.";
        let outcome = outcomes::no_valid_ca_certificate(message);
        findings.error("/spec/validation/caCertificateRefs", [outcome]);
    }
    authorities.map(Authorities::These)
}
