//! Whatever the objects are, valid or not: nothing panics, the result is the same in whichever
//! order they were read, and the status and the configuration agree.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use l4way_model::{
    ApplyReport, BackendId, Config, ListenerId, ListenerReport, Route, Target, TlsMode, Transport,
};
use l4way_resources::{
    AnyObject, Content, Refused, Snapshot,
    status::{Condition, ConditionStatus, ListenerStatus, Status, StatusUpdate},
};
use l4way_translate::{Addresses, Observed, Settings, compile, graph, problems, status};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

/// For `*.example.com`.
const CERTIFICATE: &str = include_str!("support/certificates/wildcard.crt");
const KEY: &str = include_str!("support/certificates/wildcard.key");

/// Few names, so that objects meet.
fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

fn metadata() -> impl Strategy<Value = Value> {
    let created = option::of(select(vec!["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]));
    let namespace = select(vec!["a", "a", "a", "b"]);
    (name(), namespace, created).prop_map(|(name, namespace, created)| {
        json!({"name": name, "namespace": namespace, "creationTimestamp": created,
               "generation": 3, "labels": {"kubernetes.io/service-name": name}})
    })
}

fn listener() -> impl Strategy<Value = Value> {
    let odd = select(vec!["TLS", "HTTP", "HTTPS", "SCTP", ""]);
    let protocol = prop_oneof![4 => Just("TCP"), 4 => Just("UDP"), 2 => odd];
    let hostname = option::of(select(vec!["a.example.com", "*.example.com", "", "*"]));
    let from = option::of(select(vec!["All", "All", "Same", "Selector", "None"]));
    let from = (from, option::of(selector()));
    let kind = select(vec!["TCPRoute", "UDPRoute", "TLSRoute", "Nonsense"]);
    let kinds = prop_oneof![3 => Just(Vec::new()), 1 => vec(kind, 0..3)];
    let tls = option::weighted(0.2, select(vec!["Terminate", "Passthrough"]));
    (protocol, 1_u16..6, hostname, from, kinds, tls).prop_map(
        |(protocol, port, hostname, (from, selector), kinds, tls)| {
            let kinds: Vec<_> = kinds.iter().map(|kind| json!({"kind": kind})).collect();
            json!({"protocol": protocol, "port": port, "hostname": hostname,
                   "tls": tls.map(|mode| json!({"mode": mode, "certificateRefs": [{"name": "a"}]})),
                   "allowedRoutes": {"namespaces": {"from": from, "selector": selector},
                                     "kinds": kinds}})
        },
    )
}

/// Some need a label, some that it be missing or be another.
fn selector() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"matchLabels": {"team": "x"}}),
        json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}),
        json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]}),
    ])
}

/// Listeners, each with a name of its own.
fn listeners() -> impl Strategy<Value = Vec<Value>> {
    vec(listener(), 0..4).prop_map(|mut listeners| {
        for (listener, name) in listeners.iter_mut().zip(["a", "b", "c", "d"]) {
            listener["name"] = name.into();
        }
        listeners
    })
}

fn gateway() -> impl Strategy<Value = (&'static str, Value)> {
    let address = select(vec!["127.0.0.1", "0.0.0.0", "::1", "nonsense", ""]);
    let kind = prop_oneof![9 => Just("IPAddress"), 1 => Just("Hostname")];
    let address = (kind, address).prop_map(|(kind, value)| json!({"type": kind, "value": value}));
    let addresses = prop_oneof![3 => Just(Vec::new()), 1 => vec(address, 0..3)];
    let from = option::of(select(vec!["All", "Same", "None"]));
    (metadata(), name(), listeners(), addresses, from).prop_map(
        |(metadata, class, listeners, addresses, from)| {
            let spec = json!({"gatewayClassName": class, "listeners": listeners,
                "addresses": addresses, "allowedListeners": {"namespaces": {"from": from}}});
            ("Gateway", json!({"metadata": metadata, "spec": spec}))
        },
    )
}

fn listener_set() -> impl Strategy<Value = (&'static str, Value)> {
    let parent = (name(), option::of(name()));
    (metadata(), parent, listeners()).prop_map(|(metadata, (name, namespace), listeners)| {
        let spec = json!({"parentRef": {"name": name, "namespace": namespace},
                              "listeners": listeners});
        ("ListenerSet", json!({"metadata": metadata, "spec": spec}))
    })
}

fn route() -> impl Strategy<Value = (&'static str, Value)> {
    let kind =
        select(vec!["TCPRoute", "TCPRoute", "UDPRoute", "UDPRoute", "TLSRoute", "HTTPRoute"]);
    let parent_kind = select(vec!["Gateway", "Gateway", "ListenerSet", "Service"]);
    let (section, port) = (option::weighted(0.2, name()), option::weighted(0.1, 1..6));
    let parent = (parent_kind, name(), option::weighted(0.2, name()), section, port).prop_map(
        |(kind, name, namespace, section, port)| {
            json!({"kind": kind, "name": name, "namespace": namespace, "sectionName": section,
                   "port": port})
        },
    );
    let backend_kind = select(vec![("", "Service"), ("l4way.dev", "Backend"), ("a", "B")]);
    let backend = (backend_kind, name(), option::weighted(0.2, name()), option::of(1..3), 0..3)
        .prop_map(|((group, kind), name, namespace, port, weight)| {
            json!({"group": group, "kind": kind, "name": name, "namespace": namespace,
                   "port": port, "weight": weight})
        });
    let rule = vec(backend, 0..3).prop_map(|backends| json!({"backendRefs": backends}));
    let hostnames = vec(select(vec!["a.example.com", "*.com", "*", ""]), 0..2);
    (kind, metadata(), vec(parent, 0..3), vec(rule, 0..3), hostnames).prop_map(
        |(kind, metadata, parents, rules, hostnames)| {
            let spec = json!({"parentRefs": parents, "rules": rules, "hostnames": hostnames});
            (kind, json!({"metadata": metadata, "spec": spec}))
        },
    )
}

fn backend() -> impl Strategy<Value = (&'static str, Value)> {
    let protocol = || select(vec!["TCP", "UDP", "SCTP"]);
    let service = (metadata(), protocol(), 1..3, option::of(name())).prop_map(
        |(metadata, protocol, port, external)| {
            let spec = json!({"ports": [{"port": port, "protocol": protocol}],
                "type": external.map(|_| "ExternalName"), "externalName": external});
            ("Service", json!({"metadata": metadata, "spec": spec}))
        },
    );
    let address = select(vec!["10.0.0.1", "::1", "a.example.com", ""]);
    let endpoint = (vec(address, 0..2), option::of(any::<bool>()), option::of(any::<bool>()))
        .prop_map(|(addresses, ready, terminating)| {
            json!({"addresses": addresses,
                   "conditions": {"ready": ready, "terminating": terminating}})
        });
    let kind = select(vec!["IPv4", "IPv6", "FQDN", ""]);
    let slice = (metadata(), protocol(), option::of(1..3), vec(endpoint, 0..3), kind).prop_map(
        |(metadata, protocol, port, endpoints, kind)| {
            (
                "EndpointSlice",
                json!({"metadata": metadata, "addressType": kind,
                "ports": [{"port": port, "protocol": protocol}], "endpoints": endpoints}),
            )
        },
    );
    let endpoint = select(vec![
        json!({"ip": {"address": "192.0.2.1", "port": 80}}),
        json!({"unix": {"path": "/run/a.sock"}}),
        json!({"fqdn": {"hostname": "a.example.com", "port": 80}}),
    ]);
    let backend = (metadata(), vec(endpoint, 0..2)).prop_map(|(metadata, endpoints)| {
        ("Backend", json!({"metadata": metadata, "spec": {"endpoints": endpoints}}))
    });
    prop_oneof![service, slice, backend]
}

fn policy() -> impl Strategy<Value = (&'static str, Value)> {
    let target = (select(vec![("", "Service"), ("l4way.dev", "Backend"), ("a", "B")]), name());
    let target = (target, option::weighted(0.2, name())).prop_map(|(((group, kind), name), part)| {
        json!({"group": group, "kind": kind, "name": name, "sectionName": part})
    });
    let reference = (select(vec!["Secret", "ConfigMap", "Nonsense"]), name());
    let reference = reference.prop_map(|(kind, name)| json!({"kind": kind, "name": name}));
    let authorities = prop_oneof![
        Just(json!({"wellKnownCACertificates": "System"})),
        vec(reference, 0..3).prop_map(|refs| json!({"caCertificateRefs": refs})),
    ];
    (metadata(), vec(target, 1..3), authorities).prop_map(|(metadata, targets, mut validation)| {
        validation["hostname"] = "a.example.com".into();
        let spec = json!({"targetRefs": targets, "validation": validation});
        ("BackendTLSPolicy", json!({"metadata": metadata, "spec": spec}))
    })
}

fn other() -> impl Strategy<Value = (&'static str, Value)> {
    let controller = select(vec!["l4way.dev/gateway-controller", "example.com/other"]);
    let class = (name(), controller).prop_map(|(name, controller)| {
        let spec = json!({"controllerName": controller});
        ("GatewayClass", json!({"metadata": {"name": name}, "spec": spec}))
    });
    let kind = select(vec!["TCPRoute", "UDPRoute", "Gateway", "ListenerSet"]);
    let grant = (metadata(), kind, name()).prop_map(|(metadata, kind, namespace)| {
        let from = json!({"group": "gateway.networking.k8s.io", "kind": kind,
                          "namespace": namespace});
        let spec = json!({"from": [from], "to": [{"group": "", "kind": "Service"}]});
        ("ReferenceGrant", json!({"metadata": metadata, "spec": spec}))
    });
    let data = select(vec![
        json!({"ca.crt": BASE64_STANDARD.encode(CERTIFICATE)}),
        json!({"tls.crt": "%%%", "tls.key": ""}),
        json!({"tls.crt": "nonsense", "tls.key": ""}),
        json!({"tls.crt": BASE64_STANDARD.encode(CERTIFICATE), "tls.key": BASE64_STANDARD.encode(KEY)}),
    ]);
    let secret = (metadata(), data).prop_map(|(metadata, data)| {
        ("Secret", json!({"metadata": metadata, "type": "kubernetes.io/tls", "data": data}))
    });
    let labels = select(vec![json!({}), json!({"team": "x"}), json!({"team": "y"})]);
    let namespace = (select(vec!["a", "b"]), labels).prop_map(|(name, labels)| {
        ("Namespace", json!({"metadata": {"name": name, "labels": labels}}))
    });
    prop_oneof![1 => class, 20 => grant, 5 => secret, 10 => policy(), 5 => namespace]
}

fn read((kind, value): (&str, Value)) -> AnyObject {
    let object = AnyObject::from_value(kind, &value).expect("the kind is known");
    object.expect("the object has its kind's shape")
}

/// Policies, and routes of each kind to two Services and a Backend that they may name.
fn backends_with_policies() -> impl Strategy<Value = Vec<AnyObject>> {
    let metadata = |name: &str| json!({"name": name, "namespace": "a"});
    let listener = |name: &str, protocol: &str, port: u16| {
        json!({"name": name, "protocol": protocol, "port": port,
               "tls": (protocol == "TLS").then(|| json!({"certificateRefs": [{"name": "a"}]}))})
    };
    let listeners = [listener("a", "TCP", 1), listener("b", "TLS", 2), listener("c", "HTTP", 3)];
    let gateway = json!({"gatewayClassName": "a", "listeners": listeners});
    let backend = |group: &str, kind: &str, name: &str| json!({"group": group, "kind": kind, "name": name, "port": 1});
    let backends = [
        backend("", "Service", "a"),
        backend("", "Service", "b"),
        backend("l4way.dev", "Backend", "c"),
    ];
    let route = |kind, section: &str| {
        let spec = json!({"parentRefs": [{"name": "a", "sectionName": section}],
                          "rules": [{"backendRefs": backends}]});
        (kind, json!({"metadata": metadata("a"), "spec": spec}))
    };
    let service = |name: &str| {
        let spec = json!({"ports": [{"name": "a", "port": 1, "protocol": "TCP"}]});
        ("Service", json!({"metadata": metadata(name), "spec": spec}))
    };
    let endpoints = json!([{"ip": {"address": "192.0.2.1", "port": 80}}]);
    let data = json!({"tls.crt": CERTIFICATE, "tls.key": KEY});
    let secret =
        json!({"metadata": metadata("a"), "type": "kubernetes.io/tls", "stringData": data});
    let fixed = [
        ("Gateway", json!({"metadata": metadata("a"), "spec": gateway})),
        route("TCPRoute", "a"),
        route("TLSRoute", "b"),
        route("HTTPRoute", "c"),
        service("a"),
        service("b"),
        ("Backend", json!({"metadata": metadata("c"), "spec": {"endpoints": endpoints}})),
        ("Secret", secret),
    ];
    let fixed: Vec<_> = fixed.into_iter().map(read).collect();
    vec(policy().prop_map(read), 0..4)
        .prop_map(move |policies| [&fixed[..], &policies[..]].concat())
}

/// Objects as documents, of which one is to be broken: none is there twice.
fn documents() -> impl Strategy<Value = (Vec<(&'static str, Value)>, usize)> {
    let document = prop_oneof![3 => gateway(), 2 => listener_set(), 6 => route(), 5 => backend(), 4 => other()];
    let documents = vec(document, 1..32).prop_map(|documents| {
        let mut seen = BTreeSet::new();
        let is_new =
            |document: &(&'static str, Value)| seen.insert(read(document.clone()).reference());
        documents.into_iter().filter(is_new).collect::<Vec<_>>()
    });
    documents.prop_flat_map(|documents| {
        let number = 0..documents.len();
        (Just(documents), number)
    })
}

/// What is known of an object that can't be used: everything, its kind and name, or its kind only.
fn refused((kind, value): &(&'static str, Value), known: usize) -> Refused {
    let key = read((kind, value.clone())).metadata().key();
    Refused {
        kind: (*kind).into(),
        namespace: (known > 0 || key.namespace.is_empty()).then_some(key.namespace),
        name: (known > 0).then_some(key.name),
        place: None,
        content: if known > 1 { Content::Fields(value.clone()) } else { Content::Unknown },
    }
}

/// Where sessions go: from which listener by which route to which backend, and whether by TLS.
fn opened(config: &Config) -> BTreeSet<(String, String, String)> {
    let of = |id: &ListenerId, route: &Route| {
        let targets = route.targets.iter().filter(|target| target.weight > 0);
        let targets = targets.filter_map(|target| match &target.target {
            Target::Backend(id) => Some(format!("{id} in plain text")),
            Target::TlsBackend(id, tls) => Some(format!("{id} by {tls:?}")),
            Target::Refused(_) => None,
        });
        let (listener, route) = (id.to_string(), route.id.to_string());
        targets.map(|target| (listener.clone(), route.clone(), target)).collect::<Vec<_>>()
    };
    let mut opened = BTreeSet::new();
    for listener in config.listeners() {
        opened.extend(listener.route.iter().flat_map(|route| of(&listener.id, route)));
    }
    for listener in config.tls_ports().iter().flat_map(|port| &port.listeners) {
        opened.extend(listener.mode.routes().iter().flat_map(|tls| of(&listener.id, &tls.route)));
        if let TlsMode::Https { rules, .. } = &listener.mode {
            opened.extend(rules.iter().flat_map(|rule| of(&listener.id, &rule.route)));
        }
    }
    for listener in config.http_ports().iter().flat_map(|port| &port.listeners) {
        opened.extend(listener.rules.iter().flat_map(|rule| of(&listener.id, &rule.route)));
    }
    opened
}

/// Which routes and ListenerSets are let in, and by whom.
fn let_in(status: &[StatusUpdate]) -> BTreeSet<String> {
    let holds = |conditions: &[Condition]| {
        let mut accepted = conditions.iter().filter(|condition| condition.kind == "Accepted");
        accepted.all(|condition| condition.status == ConditionStatus::True)
    };
    let mut all = BTreeSet::new();
    for update in status {
        match &update.status {
            Status::Route(route) => all.extend(
                route
                    .parents
                    .iter()
                    .filter(|parent| holds(&parent.conditions))
                    .map(|parent| format!("{} {:?}", update.object, parent.parent_ref)),
            ),
            Status::ListenerSet(set) if holds(&set.conditions) => {
                all.insert(update.object.to_string());
            }
            _ => {}
        }
    }
    all
}

/// Objects in some order. Where two are the same one, only the first counts, as when reading files.
fn objects() -> impl Strategy<Value = (Vec<AnyObject>, Vec<AnyObject>)> {
    let object = prop_oneof![3 => gateway(), 2 => listener_set(), 6 => route(), 5 => backend(), 2 => other()];
    vec(object, 0..48)
        .prop_map(|objects| {
            let mut seen = BTreeSet::new();
            objects
                .into_iter()
                .map(read)
                .filter(|object| seen.insert(object.reference()))
                .collect::<Vec<_>>()
        })
        .prop_flat_map(|objects| (Just(objects.clone()), Just(objects).prop_shuffle()))
}

fn settings() -> impl Strategy<Value = Settings> {
    let addresses = prop_oneof![
        6 => Just(Addresses::Shared(vec!["127.0.0.1".parse().expect("an address")])),
        1 => Just(Addresses::Shared(Vec::new())),
        2 => Just(Addresses::Pool {
            pool: "127.0.0.1,127.0.0.2".parse().expect("a pool"),
            held: Default::default()
        }),
    ];
    addresses.prop_map(|addresses| Settings { addresses, ..Settings::default() })
}

/// Whether a listener is said to be programmed.
fn is_programmed(listener: &ListenerStatus) -> bool {
    let mut programmed = listener.conditions.iter().filter(|c| c.kind == "Programmed");
    programmed.all(|condition| condition.status == ConditionStatus::True)
}

fn programmed_listeners(status: &[StatusUpdate]) -> usize {
    let listeners = status.iter().flat_map(|update| match &update.status {
        Status::Gateway(status) => &status.listeners[..],
        Status::ListenerSet(status) => &status.listeners[..],
        Status::Route(_) | Status::GatewayClass(_) | Status::BackendTlsPolicy(_) => &[],
    });
    listeners.filter(|listener| is_programmed(listener)).count()
}

/// Where the proxy's own words go in plain text: not datagrams, nor the client's own TLS.
fn in_plain_text(config: &Config) -> BTreeSet<BackendId> {
    let tcp = config.listeners().filter(|listener| listener.transport == Transport::Tcp);
    let tcp = tcp.filter_map(|listener| listener.route.as_ref());
    let tls = config.tls_ports().iter().flat_map(|port| &port.listeners);
    let terminated = tls.filter(|listener| matches!(listener.mode, TlsMode::Terminate { .. }));
    let terminated =
        terminated.flat_map(|listener| listener.mode.routes()).map(|route| &route.route);
    let http = config.http_rules().map(|rule| &rule.route);
    let targets = tcp.chain(terminated).chain(http).flat_map(|route| &route.targets);
    let plain = targets.filter_map(|weighted| match &weighted.target {
        Target::Backend(id) => Some(id.clone()),
        Target::TlsBackend(..) | Target::Refused(_) => None,
    });
    plain.collect()
}

proptest! {
    #[test]
    fn the_order_of_reading_does_not_matter((one, other) in objects(), settings in settings()) {
        let one = graph(&one.into_iter().collect(), &settings);
        let other = graph(&other.into_iter().collect(), &settings);
        prop_assert_eq!(compile(&one), compile(&other));
        prop_assert_eq!(problems(&one), problems(&other));
        let (report, seen) = (ApplyReport::default(), Observed::default());
        prop_assert_eq!(status(&one, &report, &seen), status(&other, &report, &seen));
    }

    /// What is compiled is what may be programmed, and nothing is programmed that isn't compiled.
    #[test]
    fn status_and_configuration_agree((objects, _) in objects(), settings in settings()) {
        let snapshot: Snapshot = objects.into_iter().collect();
        let graph = graph(&snapshot, &settings);
        let compiled = compile(&graph);
        let ports = compiled.config.tls_ports().iter();
        let refused = ports.flat_map(|port| &port.listeners).filter(|l| l.mode == TlsMode::Refused);
        let refused: BTreeSet<_> = refused.map(|listener| &listener.id).collect();
        let ids = compiled.config.listener_ids().filter(|id| !refused.contains(id));
        let ids: Vec<_> = ids.collect();
        let bound = ids.iter().map(|id| ((*id).clone(), ListenerReport::Bound));
        let report = ApplyReport { listeners: bound.collect(), ..ApplyReport::default() };
        let all_bound = status(&graph, &report, &Observed::default());
        prop_assert_eq!(programmed_listeners(&all_bound), ids.len());
        prop_assert_eq!(programmed_listeners(&status(&graph, &ApplyReport::default(), &Observed::default())), 0);
    }

    /// An object that can't be used opens nothing that it would have closed, and gives nobody what it would
    /// have had.
    #[test]
    fn a_broken_object_opens_nothing((documents, number) in documents(), known in 0..3_usize, settings in settings()) {
        let valid: Snapshot = documents.iter().cloned().map(read).collect();
        let mut broken = valid.clone();
        let document = &documents[number];
        broken.remove(&read(document.clone()).reference());
        broken.refused.push(Arc::new(refused(document, known)));
        let (valid, broken) = (graph(&valid, &settings), graph(&broken, &settings));
        let (before, after) = (opened(&compile(&valid).config), opened(&compile(&broken).config));
        let (report, seen) = (ApplyReport::default(), Observed::default());
        match document.0 {
            // Whom it would let in isn't known, and what those had may be others'.
            "Namespace" => {
                let before = let_in(&status(&valid, &report, &seen));
                let after = let_in(&status(&broken, &report, &seen));
                prop_assert!(after.is_subset(&before), "{after:#?} not in {before:#?}");
            }
            // Gateways keep their ports that may be of an invalid class, so that some other may be free.
            "GatewayClass" => {
                let statuses = status(&valid, &report, &seen);
                let ours: BTreeSet<_> = statuses.iter().map(|update| update.object.to_string()).collect();
                for id in compile(&broken).config.listener_ids() {
                    prop_assert!(ours.contains(&format!("Gateway {}", id.gateway)), "{id} is taken up");
                }
            }
            // A listener without a certificate leaves its port to another Gateway, as one without any.
            "Secret" => {
                let same = |(listener, ..): &&(String, String, String)| {
                    before.iter().any(|(other, ..)| other == listener)
                };
                let after: BTreeSet<_> = after.iter().filter(same).cloned().collect();
                prop_assert!(after.is_subset(&before), "{after:#?} not in {before:#?}");
            }
            // What has a place can only keep it if that can be read.
            "Gateway" | "ListenerSet" | "TCPRoute" | "UDPRoute" | "TLSRoute" | "HTTPRoute"
                if known < 2 => {}
            _ => prop_assert!(after.is_subset(&before), "{after:#?} not in {before:#?}"),
        }
    }

    /// Whatever becomes of a policy, nothing is sent in plain text to what it names, and the rest is.
    #[test]
    fn what_a_policy_names_gets_no_plain_text(objects in backends_with_policies()) {
        let snapshot: Snapshot = objects.into_iter().collect();
        let plain = in_plain_text(&compile(&graph(&snapshot, &Settings::default())).config);
        let policies = snapshot.backend_tls_policies.values().filter(|p| &*p.metadata.namespace == "a");
        let targets: Vec<_> = policies.flat_map(|policy| &policy.spec.target_refs).collect();
        for (group, kind, name) in
            [("", "Service", "a"), ("", "Service", "b"), ("l4way.dev", "Backend", "c")]
        {
            let is_named = targets.iter().any(|target| {
                (&*target.group, &*target.kind, &*target.name) == (group, kind, name)
                    && target.section_name.as_deref().is_none_or(|part| kind == "Service" && part == "a")
            });
            let is_plain = plain.iter().any(|id| (&*id.kind, &*id.name) == (kind, name));
            prop_assert_eq!(is_plain, !is_named, "{} {}", kind, name);
        }
    }
}
