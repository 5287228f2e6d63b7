use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use l4way_model::{GatewayId, ListenerId};
use l4way_resources::{
    Severity, Snapshot,
    api::{ExternalBackend, Gateway, GatewayParametersSpec, ObjectKey, TlsPeerConfig},
};

use super::{
    Certificate, Certificates, ClassNode, ListenerNode, Protocol, Referrer,
    certificate::{Defect, Validity},
    class, namespace,
    parameters::{self, NotFound},
    refused, tls,
};
use crate::{
    Settings,
    conditions::{self, ACCEPTED},
    finding::Findings,
};

/// A Gateway that is ours.
#[derive(Clone, Debug)]
pub(crate) struct GatewayNode {
    pub(crate) object: Arc<Gateway>,
    /// Whether it runs in one, and its parameters count.
    in_cluster: bool,
    /// How its proxies run in a cluster: what it asks for, and else what its class does.
    pub(crate) parameters: GatewayParametersSpec,
    /// The addresses that it asks for by value.
    pub(crate) asked_addresses: Vec<IpAddr>,
    /// The addresses that its listeners are bound on.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its own listeners.
    pub(crate) listeners: Vec<ListenerNode>,
    /// The ListenerSets that may attach, the one with precedence first.
    pub(crate) listener_sets: Vec<ObjectKey>,
    /// What it shows to backends.
    pub(crate) client_certificate: ClientCertificate,
    /// It is invalid, and takes nothing up.
    pub(crate) is_refused: bool,
    /// It doesn't run because it or its class is invalid. Its ports are nobody else's.
    pub(crate) keeps_ports: bool,
    pub(crate) findings: Findings,
}

/// What a Gateway shows to backends that it speaks TLS with.
#[derive(Clone, Debug)]
pub(crate) enum ClientCertificate {
    /// It doesn't ask for one.
    None,
    This(Certificate),
    /// What it refers to can't be used, so no such session is begun.
    Unusable,
}

impl GatewayNode {
    /// Reads a Gateway, without its addresses and what its neighbours have to say.
    pub(crate) fn new(
        gateway: &Arc<Gateway>,
        settings: &Settings,
        class: Option<&ClassNode>,
        certificates: &Certificates<'_>,
    ) -> Self {
        let mut node = Self {
            object: gateway.clone(),
            in_cluster: settings.in_cluster,
            parameters: class.map(|class| class.parameters.clone()).unwrap_or_default(),
            asked_addresses: Vec::new(),
            addresses: Vec::new(),
            listeners: Vec::new(),
            listener_sets: Vec::new(),
            client_certificate: ClientCertificate::None,
            is_refused: false,
            keeps_ports: false,
            findings: Findings::default(),
        };
        node.check_class(class);
        node.read_parameters(certificates.snapshot, settings);
        node.check_default_scope();
        node.check_allowed_listeners();
        node.check_client_certificate(certificates);
        node.read_listeners(certificates);
        node.check_frontend(certificates);
        node
    }

    /// The same Gateway as one that is invalid, of which only the listeners and addresses could be read.
    fn refused(self) -> Self {
        Self { is_refused: true, ..self.kept("The Gateway is invalid.".to_owned()) }
    }

    /// The same Gateway as one that doesn't run for this reason, which has been told.
    fn kept(mut self, why: String) -> Self {
        self.keeps_ports = true;
        let outcomes = conditions::gateway::invalid(why);
        outcomes.into_iter().for_each(|outcome| self.findings.told(outcome));
        self.listeners.iter_mut().for_each(|listener| listener.is_refused = true);
        self
    }

    /// The name by which the proxy knows it.
    pub(crate) fn id(&self) -> GatewayId {
        id(&self.object.metadata.key())
    }

    /// Whether its listeners may run at all. Whether one of them is valid, its status tells.
    pub(crate) fn may_run(&self) -> bool {
        self.findings.outcome(ACCEPTED).is_none()
    }

    /// Whether its routes may send sessions to a backend that leads out of the cluster.
    pub(crate) fn allows(&self, external: ExternalBackend) -> bool {
        !self.in_cluster || self.parameters.allows(external)
    }

    /// What it shows to backends, if it asks for that and has it.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        match &self.client_certificate {
            ClientCertificate::This(certificate) => Some(certificate),
            ClientCertificate::None | ClientCertificate::Unusable => None,
        }
    }

    fn referrer(&self) -> Referrer<'_> {
        Referrer { kind: "Gateway", namespace: &self.object.metadata.namespace }
    }

    fn check_class(&mut self, class: Option<&ClassNode>) {
        let name = &self.object.spec.gateway_class_name;
        let message = match class {
            Some(class) if class.findings.outcome(ACCEPTED).is_some() => {
                format!("GatewayClass {name} is not accepted; see its status")
            }
            None if self.in_cluster => {
                format!("GatewayClass {name} doesn't exist any more; what runs stays as it is")
            }
            _ => return,
        };
        let outcomes = conditions::gateway::class_not_accepted(message);
        self.findings.error("/spec/gatewayClassName", outcomes);
    }

    fn read_parameters(&mut self, snapshot: &Snapshot, settings: &Settings) {
        let infrastructure = self.object.spec.infrastructure.as_ref();
        let Some(reference) = infrastructure.and_then(|infra| infra.parameters_ref.as_ref()) else {
            return;
        };
        let pointer = "/spec/infrastructure/parametersRef";
        // The reference is local, whatever else it says.
        let namespace = Some(&*self.object.metadata.namespace);
        match parameters::find(snapshot, settings, reference, namespace) {
            Ok(found) => self.parameters = found.spec.clone().or(&self.parameters),
            Err(NotFound::Foreign(message)) if !self.in_cluster => {
                self.findings.note(Severity::Warning, pointer, parameters::passed_over(&message));
            }
            Err(NotFound::Refused(message)) => {
                let outcomes = conditions::gateway::invalid_parameters(message);
                outcomes.into_iter().for_each(|outcome| self.findings.told(outcome));
            }
            Err(NotFound::Foreign(message) | NotFound::Missing(message)) => {
                let outcomes = conditions::gateway::invalid_parameters(message);
                self.findings.error(pointer, outcomes);
            }
        }
    }

    fn check_default_scope(&mut self) {
        let scope = self.object.spec.default_scope.as_deref();
        if scope.is_some_and(|scope| scope != "None") {
            self.findings.note(
                Severity::Warning,
                "/spec/defaultScope",
                "Default Gateways are not supported, no route attaches because of this; name \
                 the Gateway in the routes' parentRefs.",
            );
        }
    }

    fn check_allowed_listeners(&mut self) {
        let allowed = self.object.spec.allowed_listeners.as_ref();
        let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        if let Some(defect) = namespaces.and_then(namespace::defect) {
            let message = format!("No ListenerSet is allowed: {defect}");
            self.findings.note(Severity::Error, "/spec/allowedListeners/namespaces", message);
        }
    }

    fn check_client_certificate(&mut self, certificates: &Certificates<'_>) {
        let backend = self.object.spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
        let Some(reference) = backend.and_then(|tls| tls.client_certificate_ref.as_ref()) else {
            return;
        };
        let pointer = "/spec/tls/backend/clientCertificateRef";
        self.client_certificate = ClientCertificate::Unusable;
        let outcome = match certificates.key_pair(self.referrer(), reference) {
            Ok(certificate) => {
                let validity = certificate.validity(certificates.now);
                self.client_certificate = ClientCertificate::This(certificate);
                match validity {
                    Validity::Good => return,
                    Validity::EndsSoon(message) => {
                        self.findings.note(Severity::Warning, pointer, message);
                        return;
                    }
                    Validity::Invalid(message) => {
                        conditions::gateway::invalid_client_certificate_ref(message)
                    }
                }
            }
            Err(Defect::NotPermitted(message)) => conditions::ref_not_permitted(message),
            Err(Defect::Kind(message) | Defect::Invalid(message)) => {
                conditions::gateway::invalid_client_certificate_ref(message)
            }
            Err(Defect::Refused(message)) => {
                self.findings.told(conditions::gateway::invalid_client_certificate_ref(message));
                return;
            }
        };
        self.findings.error(pointer, [outcome]);
    }

    fn read_listeners(&mut self, certificates: &Certificates<'_>) {
        let metadata = &self.object.metadata;
        let gateway = self.id();
        let listeners = self.object.spec.listeners.iter().enumerate().map(|(index, listener)| {
            let id = ListenerId {
                gateway: gateway.clone(),
                listener_set: None,
                name: listener.name.clone(),
            };
            let mut node = ListenerNode::new(id, metadata.namespace.clone(), index, listener);
            tls::check_certificates(&mut node, listener, self.referrer(), certificates);
            node
        });
        self.listeners = listeners.collect();
    }

    /// What is asked of clients' certificates, on this port.
    fn frontend(&self, port: u16) -> Option<(String, &TlsPeerConfig)> {
        let frontend = self.object.spec.tls.as_ref()?.frontend.as_ref()?;
        let on_port = frontend.per_port.iter().enumerate().find(|(_, tls)| tls.port == port);
        Some(match on_port {
            Some((index, on_port)) => {
                (format!("/spec/tls/frontend/perPort/{index}/tls/validation"), &on_port.tls)
            }
            None => ("/spec/tls/frontend/default/validation".into(), &frontend.default),
        })
    }

    fn check_frontend(&mut self, certificates: &Certificates<'_>) {
        let mut listeners = std::mem::take(&mut self.listeners);
        for listener in &mut listeners {
            self.check_frontend_of(listener, certificates);
        }
        self.listeners = listeners;
        let insecure = self.object.spec.tls.iter().flat_map(|tls| &tls.frontend).any(|frontend| {
            let configs = frontend.per_port.iter().map(|on_port| &on_port.tls);
            configs.chain([&frontend.default]).any(tls::lets_anybody_in)
        });
        if insecure {
            let outcome = conditions::gateway::insecure_frontend_validation(
                "mode AllowInsecureFallback lets clients in without a valid certificate; use \
                 AllowValidOnly",
            );
            self.findings.tell(Severity::Warning, "/spec/tls/frontend", outcome);
        }
    }

    /// Checks what clients of a listener have to show, be it the Gateway's own or a ListenerSet's. The
    /// API has it for HTTPS; l4way for TLS, too, where it ends the sessions.
    pub(crate) fn check_frontend_of(
        &self,
        listener: &mut ListenerNode,
        certificates: &Certificates<'_>,
    ) {
        let Some((pointer, config)) = self.frontend(listener.port) else { return };
        let Some(validation) = &config.validation else { return };
        let referrer = self.referrer();
        if listener.protocol.is_some_and(Protocol::terminates_tls) {
            tls::check_validation(listener, &pointer, config, validation, referrer, certificates);
        }
    }
}

/// The name by which the proxy knows a Gateway.
pub(crate) fn id(key: &ObjectKey) -> GatewayId {
    GatewayId::new(key.namespace.clone(), key.name.clone())
}

/// The Gateways that are ours, and whether that is because there is no GatewayClass at all.
pub(crate) fn build(
    snapshot: &Snapshot,
    settings: &Settings,
    classes: &BTreeMap<Arc<str>, ClassNode>,
    certificates: &Certificates<'_>,
) -> BTreeMap<ObjectKey, GatewayNode> {
    let classless = class::are_missing(snapshot, settings);
    let ours = snapshot.gateways.iter().filter_map(|(key, gateway)| {
        let name = &gateway.spec.gateway_class_name;
        let class = classes.get(name);
        let new = || GatewayNode::new(gateway, settings, class, certificates);
        let is_left = || {
            settings.provided.contains(key)
                && !snapshot.gateway_classes.contains_key(&ObjectKey::new("", name.clone()))
        };
        let node = match class::refused(snapshot, settings, name) {
            _ if classless || class.is_some() => new(),
            Some(why) => new().kept(why),
            None if is_left() => new(),
            None => return None,
        };
        Some((key.clone(), node))
    });
    let refused = refused::gateways(snapshot).into_iter().filter_map(|gateway| {
        let name = &gateway.spec.gateway_class_name;
        let class = classes.get(name);
        // Where its class can't be read, it may be one of ours.
        (classless || class.is_some() || name.is_empty() && !classes.is_empty()).then(|| {
            let node = GatewayNode::new(&gateway, settings, class, certificates);
            (gateway.metadata.key(), node.refused())
        })
    });
    let refused: Vec<_> = refused.collect();
    ours.chain(refused).collect()
}
