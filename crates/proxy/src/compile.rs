//! From a listener of the configuration to what one of the workers is told of it.

use std::{collections::BTreeMap, sync::Arc};

use l4way_host::random_seed;
use l4way_model::{
    BackendId, Endpoint, Hostname, ListenerId, RefusedReason, Route as ModelRoute,
    Target as ModelTarget, TlsListener as ModelTlsListener, TlsMode as ModelTlsMode, TlsRoute,
    Transport,
};
use l4way_proxy_core::{Hostnames, WeightedPick};
use l4way_session::{Labels, Row, SessionCounters, Writer};
use l4way_tls::{Originators, Terminators};

use crate::{
    routes::{BackendKey, Forward, ListenerKey, Refusal, Route, Target},
    tls::{Counted, TlsListener, TlsMode},
};

/// Makes a listener's part of what one of the workers is told.
pub(crate) struct Compiler<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) counters: &'a SessionCounters,
    /// The worker's number.
    pub(crate) worker: usize,
    pub(crate) listener: &'a ListenerId,
}

/// What routes and listeners are made with.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) backends: BTreeMap<BackendId, (BackendKey, Arc<[Endpoint]>)>,
    pub(crate) terminators: Terminators,
    pub(crate) originators: Originators,
}

impl Compiler<'_> {
    fn row(
        &self,
        transport: Transport,
        route: Option<&ModelRoute>,
        backend: Option<&BackendId>,
    ) -> Arc<Row> {
        let labels = Labels {
            transport,
            listener: self.listener.clone(),
            route: route.map(|route| route.id.clone()),
            backend: backend.cloned(),
        };
        self.counters.row(labels, Writer::Worker(self.worker))
    }

    /// A route as the worker has it.
    pub(crate) fn route(&self, transport: Transport, route: Option<&ModelRoute>) -> Route {
        let refusal = |reason| Refusal { reason, row: self.row(transport, route, None) };
        let backend = |id: &BackendId, originator| match self.parts.backends.get(id) {
            Some(&(backend, _)) => {
                let row = self.row(transport, route, Some(id));
                Target::Backend(Forward { backend, originator, row })
            }
            None => Target::Refused(refusal(RefusedReason::InvalidBackend)),
        };
        let target = |target: &ModelTarget| match target {
            ModelTarget::Refused(reason) => Target::Refused(refusal(*reason)),
            ModelTarget::Backend(id) => backend(id, None),
            ModelTarget::TlsBackend(id, tls) => match self.parts.originators.get(tls) {
                Ok(originator) => backend(id, Some(originator.clone())),
                Err(_) => Target::Refused(refusal(RefusedReason::InvalidBackend)),
            },
        };
        let targets = route.map_or(&[][..], |route| &route.targets);
        let otherwise = match route {
            Some(_) => RefusedReason::NoWeight,
            None => RefusedReason::NoRoute,
        };
        Route::new(
            WeightedPick::new(targets.iter().map(|target| target.weight), random_seed()),
            targets.iter().map(|weighted| target(&weighted.target)).collect(),
            refusal(otherwise),
        )
    }

    /// A listener of a port with several.
    pub(crate) fn tls_listener(
        &self,
        key: ListenerKey,
        listener: &ModelTlsListener,
    ) -> TlsListener {
        let terminator = || self.parts.terminators.get(&listener.id).cloned();
        let (mode, https) = match &listener.mode {
            ModelTlsMode::Passthrough { routes } => {
                (TlsMode::Passthrough(self.tls_routes(routes)), false)
            }
            ModelTlsMode::Terminate { routes, .. } => {
                let terminate = |with| TlsMode::Terminate(with, self.tls_routes(routes));
                (terminator().map_or(TlsMode::Refused, terminate), false)
            }
            ModelTlsMode::Https { .. } => {
                let https = |with| TlsMode::Https(listener.id.clone(), with);
                (terminator().map_or(TlsMode::Refused, https), true)
            }
            ModelTlsMode::Refused => (TlsMode::Refused, false),
        };
        let handshake_timeout = listener.handshake_timeout;
        TlsListener { key, handshake_timeout, mode, counted: self.counted(https) }
    }

    fn tls_routes(&self, routes: &[TlsRoute]) -> Hostnames<Route> {
        let route = |TlsRoute { hostname, route }: &TlsRoute| -> (Option<Hostname>, Route) {
            (hostname.clone(), self.route(Transport::Tcp, Some(route)))
        };
        Hostnames::new(routes.iter().map(route))
    }

    /// What counts the clients that get no session. Those of HTTPS are the HTTP side's to count.
    pub(crate) fn counted(&self, https: bool) -> Counted {
        let writer = if https { Writer::Http } else { Writer::Worker(self.worker) };
        Counted {
            row: self.row(Transport::Tcp, None, None),
            handshakes: Some(self.counters.handshakes(self.listener, writer)),
        }
    }
}
