//! Results as text that people can review: one line for each condition.

use std::fmt::Write as _;

use l4way_model::{
    AlternativeName, AtLimit, Authorities, BackendSource, BackendTls, Config, Hostname, HttpPort,
    HttpRule, HttpTerms, Listener, PathMatch, Route, ServerTls, SessionTerms, Target, TlsListener,
    TlsMode, TlsOptions, TlsPort, TlsRoute,
};
use l4way_resources::{
    AnyObject, Snapshot,
    api::{ObjectRef, ParentRef},
    status::{Condition, ListenerStatus, Status, StatusUpdate},
};
use l4way_translate::{Compiled, Problem};

/// Everything that comes of a scenario, as the part of its file after `expect:`.
pub(crate) fn expectation(
    compiled: &[Compiled],
    status: &[StatusUpdate],
    problems: &[Problem],
) -> String {
    let mut text = String::new();
    write_all(&mut text, compiled, status, problems).expect("a string takes all that is written");
    text
}

fn write_all(
    out: &mut String,
    compiled: &[Compiled],
    status: &[StatusUpdate],
    problems: &[Problem],
) -> std::fmt::Result {
    let configs = || compiled.iter().map(|compiled| &compiled.config);
    let is_filled = |config: &Config| config.listener_ids().next().is_some();
    section(out, "config", configs().any(is_filled))?;
    for config in configs() {
        write_terms(out, config.terms())?;
        write_http_terms(out, config.http_terms())?;
        config.listeners().try_for_each(|listener| write_listener(out, listener))?;
        for port in config.tls_ports() {
            let mut listeners = port.listeners.iter();
            listeners.try_for_each(|listener| write_tls_listener(out, port, listener))?;
        }
        config.http_ports().iter().try_for_each(|port| write_http_port(out, port))?;
    }
    section(out, "backends", compiled.iter().any(|compiled| !compiled.backends.is_empty()))?;
    for (id, endpoints) in compiled.iter().flat_map(|compiled| &compiled.backends) {
        let transport = id.transport;
        match endpoints {
            BackendSource::Known(endpoints) => {
                let endpoints: Vec<_> = endpoints.iter().map(|e| format!("'{e}'")).collect();
                writeln!(out, "    {id} {transport}: [{}]", endpoints.join(", "))?;
            }
            BackendSource::Slices(port) => {
                let not_ready = if port.publish_not_ready { ", ready or not" } else { "" };
                writeln!(
                    out,
                    "    {id} {transport}: EndpointSlices, port {:?}{not_ready}",
                    port.name
                )?;
            }
        }
    }
    section(out, "status", !status.is_empty())?;
    for update in status {
        writeln!(out, "    {}:", update.object)?;
        write_status(out, &update.status)?;
    }
    writeln!(out, "  problems:{}", if problems.is_empty() { " none" } else { " |" })?;
    for problem in problems {
        writeln!(out, "    {} {} {}", problem.severity, problem.object, problem.pointer)?;
        writeln!(out, "      {}", problem.message)?;
    }
    Ok(())
}

fn section(out: &mut String, name: &str, filled: bool) -> std::fmt::Result {
    writeln!(out, "  {name}:{}", if filled { "" } else { " none" })
}

fn write_terms(out: &mut String, terms: SessionTerms) -> std::fmt::Result {
    if terms == SessionTerms::default() {
        return Ok(());
    }
    let SessionTerms { connect_timeout, udp_session_timeout, at_limit } = terms;
    write!(out, "    terms: connect {connect_timeout:?}, UDP {udp_session_timeout:?}")?;
    match at_limit {
        AtLimit::Wait => writeln!(out),
        AtLimit::Evict => writeln!(out, ", at limit {at_limit:?}"),
    }
}

fn write_http_terms(out: &mut String, terms: &HttpTerms) -> std::fmt::Result {
    let HttpTerms { trusted_proxies } = terms;
    let networks: Vec<_> = trusted_proxies.networks().iter().map(ToString::to_string).collect();
    if networks.is_empty() {
        return Ok(());
    }
    writeln!(out, "    trusted proxies: {}", networks.join(", "))
}

fn write_listener(out: &mut String, listener: &Listener) -> std::fmt::Result {
    let binds: Vec<_> = listener.binds().map(|bind| bind.to_string()).collect();
    writeln!(out, "    {}:", listener.id)?;
    writeln!(out, "      bind: {} {}", listener.transport, binds.join(" "))?;
    let Some(route) = &listener.route else {
        return writeln!(out, "      route: none");
    };
    writeln!(out, "      route: {}", route.id)?;
    writeln!(out, "      targets: [{}]", targets(route))
}

fn targets(route: &Route) -> String {
    let targets = route.targets.iter().map(|target| match &target.target {
        Target::Backend(id) => format!("{} {id}", target.weight),
        Target::TlsBackend(id, tls) => format!("{} {id} {}", target.weight, backend_tls(tls)),
        Target::Refused(reason) => format!("{} refused {reason}", target.weight),
    });
    targets.collect::<Vec<_>>().join(", ")
}

fn backend_tls(tls: &BackendTls) -> String {
    let names: Vec<_> = tls
        .alternative_names
        .iter()
        .map(|name| match name {
            AlternativeName::Dns(name) => format!("DNS:{name}"),
            AlternativeName::Uri(uri) => format!("URI:{uri}"),
        })
        .collect();
    let names =
        if names.is_empty() { String::new() } else { format!(" as {}", names.join(" or ")) };
    let trusted = match &tls.authorities {
        Authorities::System => "the system's authorities".to_owned(),
        Authorities::These(pem) => authorities(pem),
    };
    let shown = tls.client_certificate.as_ref().map(|pair| format!(", shows {}", pair.name));
    let shown = shown.unwrap_or_default();
    format!("(TLS to {}{names}, trusts {trusted}{shown})", tls.server_name)
}

fn authorities(pem: &str) -> String {
    format!("{} authorities", pem.matches("BEGIN CERTIFICATE").count())
}

fn write_tls_listener(
    out: &mut String,
    port: &TlsPort,
    listener: &TlsListener,
) -> std::fmt::Result {
    let binds: Vec<_> = port.binds().map(|bind| bind.to_string()).collect();
    let mode = match &listener.mode {
        TlsMode::Passthrough { .. } => "TLS passthrough",
        TlsMode::Terminate { .. } => "TLS terminate",
        TlsMode::Https { .. } => "HTTPS",
        TlsMode::Refused => "TLS refused",
    };
    writeln!(out, "    {}:", listener.id)?;
    writeln!(out, "      bind: {mode} {}", binds.join(" "))?;
    write_hostname(out, listener.hostname.as_ref())?;
    let timeout = listener.handshake_timeout;
    if timeout.as_secs() != 10 {
        writeln!(out, "      handshakeTimeout: {timeout:?}")?;
    }
    if let Some(tls) = listener.mode.tls() {
        write_server(out, tls)?;
    }
    match &listener.mode {
        TlsMode::Passthrough { routes } | TlsMode::Terminate { routes, .. } => {
            write_tls_routes(out, routes)
        }
        TlsMode::Https { rules, .. } => write_rules(out, rules),
        TlsMode::Refused => Ok(()),
    }
}

fn write_hostname(out: &mut String, hostname: Option<&Hostname>) -> std::fmt::Result {
    match hostname {
        Some(hostname) => writeln!(out, "      hostname: '{hostname}'"),
        None => Ok(()),
    }
}

fn write_server(out: &mut String, tls: &ServerTls) -> std::fmt::Result {
    let names: Vec<_> = tls.certificates.iter().map(|pair| &*pair.name).collect();
    writeln!(out, "      certificates: [{}]", names.join(", "))?;
    if let Some(validation) = &tls.client_validation {
        let optional = if validation.optional { ", or lets anybody in" } else { "" };
        writeln!(out, "      clients: trusts {}{optional}", authorities(&validation.authorities))?;
    }
    let TlsOptions { min_version, max_version, cipher_suites, alpn, resumption } = &tls.options;
    if tls.options != TlsOptions::default() {
        let suites: Vec<_> = cipher_suites.iter().map(|suite| suite.as_str()).collect();
        writeln!(
            out,
            "      options: {min_version} to {max_version}, suites [{}], alpn [{}], resumption \
             {resumption}",
            suites.join(", "),
            alpn.join(", ")
        )?;
    }
    Ok(())
}

fn write_tls_routes(out: &mut String, routes: &[TlsRoute]) -> std::fmt::Result {
    section_of(out, "routes", !routes.is_empty())?;
    for TlsRoute { hostname, route } in routes {
        let name = hostname.as_ref().map_or("any name or none", Hostname::as_str);
        writeln!(out, "      - '{name}': {}", route.id)?;
        writeln!(out, "        targets: [{}]", targets(route))?;
    }
    Ok(())
}

fn write_http_port(out: &mut String, port: &HttpPort) -> std::fmt::Result {
    let binds: Vec<_> = port.binds().map(|bind| bind.to_string()).collect();
    for listener in &port.listeners {
        writeln!(out, "    {}:", listener.id)?;
        writeln!(out, "      bind: HTTP {}", binds.join(" "))?;
        write_hostname(out, listener.hostname.as_ref())?;
        write_rules(out, &listener.rules)?;
    }
    Ok(())
}

fn write_rules(out: &mut String, rules: &[HttpRule]) -> std::fmt::Result {
    section_of(out, "rules", !rules.is_empty())?;
    for rule in rules {
        let host = rule.hostname.as_ref().map_or("any host", Hostname::as_str);
        let path = match &rule.path {
            PathMatch::Exact(path) => format!("exactly {path}"),
            PathMatch::Prefix(path) => path.to_string(),
        };
        let headers: String =
            rule.headers.iter().map(|h| format!(" {}={}", h.name, h.value)).collect();
        writeln!(out, "      - '{host} {path}{headers}': {}", rule.route.id)?;
        writeln!(out, "        targets: [{}]", targets(&rule.route))?;
    }
    Ok(())
}

fn section_of(out: &mut String, name: &str, filled: bool) -> std::fmt::Result {
    writeln!(out, "      {name}:{}", if filled { "" } else { " none" })
}

fn write_status(out: &mut String, status: &Status) -> std::fmt::Result {
    match status {
        Status::GatewayClass(status) => {
            if !status.supported_features.is_empty() {
                let features: Vec<_> =
                    status.supported_features.iter().map(|feature| &*feature.name).collect();
                writeln!(out, "      supportedFeatures: [{}]", features.join(", "))?;
            }
            write_conditions(out, 6, &status.conditions)
        }
        Status::Gateway(status) => {
            let addresses: Vec<_> =
                status.addresses.iter().map(|a| format!("{} '{}'", a.kind, a.value)).collect();
            writeln!(out, "      addresses: [{}]", addresses.join(", "))?;
            if status.attached_listener_sets > 0 {
                writeln!(out, "      attachedListenerSets: {}", status.attached_listener_sets)?;
            }
            write_conditions(out, 6, &status.conditions)?;
            status.listeners.iter().try_for_each(|listener| write_listener_status(out, listener))
        }
        Status::ListenerSet(status) => {
            write_conditions(out, 6, &status.conditions)?;
            status.listeners.iter().try_for_each(|listener| write_listener_status(out, listener))
        }
        Status::Route(status) => status.parents.iter().try_for_each(|parent| {
            writeln!(out, "      parent {}:", parent_name(&parent.parent_ref))?;
            write_conditions(out, 8, &parent.conditions)
        }),
        Status::BackendTlsPolicy(status) => status.ancestors.iter().try_for_each(|ancestor| {
            writeln!(out, "      ancestor {}:", parent_name(&ancestor.ancestor_ref))?;
            write_conditions(out, 8, &ancestor.conditions)
        }),
    }
}

fn parent_name(reference: &ParentRef) -> String {
    let mut name = format!("{} ", reference.kind);
    if let Some(namespace) = &reference.namespace {
        name += &format!("{namespace}/");
    }
    name += &reference.name;
    if let Some(section) = &reference.section_name {
        name += &format!(" sectionName {section}");
    }
    if let Some(port) = reference.port {
        name += &format!(" port {port}");
    }
    name
}

fn write_listener_status(out: &mut String, listener: &ListenerStatus) -> std::fmt::Result {
    let kinds: Vec<_> = listener.supported_kinds.iter().map(|kind| &*kind.kind).collect();
    writeln!(out, "      listener {}:", listener.name)?;
    writeln!(out, "        attachedRoutes: {}", listener.attached_routes)?;
    writeln!(out, "        supportedKinds: [{}]", kinds.join(", "))?;
    write_conditions(out, 8, &listener.conditions)
}

fn write_conditions(out: &mut String, indent: usize, conditions: &[Condition]) -> std::fmt::Result {
    writeln!(out, "{:indent$}conditions: |", "")?;
    conditions.iter().try_for_each(|condition| {
        let Condition { kind, status, reason, message, .. } = condition;
        writeln!(out, "{:indent$}  {kind}={} {reason}: {message}", "", status.as_str())
    })
}

/// Every condition says which generation of its object it is about.
pub(crate) fn check_observed_generations(snapshot: &Snapshot, status: &[StatusUpdate]) {
    for update in status {
        let generation = generation(snapshot, &update.object);
        let listeners = match &update.status {
            Status::Gateway(status) => &status.listeners[..],
            Status::ListenerSet(status) => &status.listeners[..],
            _ => &[],
        };
        let own: Vec<_> = match &update.status {
            Status::GatewayClass(status) => status.conditions.iter().collect(),
            Status::Gateway(status) => status.conditions.iter().collect(),
            Status::ListenerSet(status) => status.conditions.iter().collect(),
            Status::Route(status) => status.parents.iter().flat_map(|p| &p.conditions).collect(),
            Status::BackendTlsPolicy(status) => {
                status.ancestors.iter().flat_map(|ancestor| &ancestor.conditions).collect()
            }
        };
        let all = own.into_iter().chain(listeners.iter().flat_map(|l| &l.conditions));
        for condition in all {
            assert_eq!(condition.observed_generation, generation, "{}", update.object);
        }
    }
}

fn generation(snapshot: &Snapshot, object: &ObjectRef) -> i64 {
    let key = &object.key;
    let found = match &*object.kind {
        "GatewayClass" => snapshot.gateway_classes.get(key).cloned().map(AnyObject::GatewayClass),
        "Gateway" => snapshot.gateways.get(key).cloned().map(AnyObject::Gateway),
        "ListenerSet" => snapshot.listener_sets.get(key).cloned().map(AnyObject::ListenerSet),
        "BackendTLSPolicy" => {
            snapshot.backend_tls_policies.get(key).cloned().map(AnyObject::BackendTlsPolicy)
        }
        kind => snapshot
            .routes
            .iter()
            .find(|((of, name), _)| of.as_str() == kind && name == key)
            .map(|((kind, _), route)| AnyObject::Route(*kind, route.clone())),
    };
    found.expect("a status is of an object that was read").metadata().generation
}
