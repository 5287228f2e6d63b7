use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use l4way_resources::api::EndpointSlice;

/// A Service's namespace and name.
pub(in super::super) type Service = (Arc<str>, Arc<str>);

/// EndpointSlices by namespace, Service and name.
#[derive(Debug, Default)]
pub(in super::super) struct Store {
    namespaces: BTreeMap<Arc<str>, Services>,
}

type Services = BTreeMap<Arc<str>, BTreeMap<Arc<str>, EndpointSlice>>;

impl Store {
    /// Whether the EndpointSlices of the namespace have been listed.
    pub(in super::super) fn knows(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The EndpointSlices of a Service.
    pub(in super::super) fn of(&self, namespace: &str, service: &str) -> Vec<&EndpointSlice> {
        let services = self.namespaces.get(namespace);
        services
            .and_then(|services| services.get(service))
            .into_iter()
            .flat_map(BTreeMap::values)
            .collect()
    }

    /// Forgets all namespaces but these.
    pub(super) fn retain(&mut self, namespaces: &BTreeSet<Arc<str>>) {
        self.namespaces.retain(|namespace, _| namespaces.contains(namespace));
    }

    /// These are all EndpointSlices of the namespace. Returns the Services that may be different:
    /// all that there are and were.
    pub(super) fn replace(
        &mut self,
        namespace: &Arc<str>,
        slices: Vec<EndpointSlice>,
    ) -> Vec<Service> {
        let mut services = Services::new();
        for slice in slices {
            insert(&mut services, slice);
        }
        let before = self.namespaces.insert(namespace.clone(), services).unwrap_or_default();
        let now = self.namespaces[namespace].keys();
        let all: BTreeSet<_> = before.keys().chain(now).cloned().collect();
        all.into_iter().map(|service| (namespace.clone(), service)).collect()
    }

    /// The EndpointSlice is new, or different. Returns the Services that may be different.
    pub(super) fn set(&mut self, namespace: &Arc<str>, slice: EndpointSlice) -> Vec<Service> {
        // Its label may have named another Service before.
        let mut concerned = self.remove(namespace, &slice.metadata.name.clone());
        let services = self.namespaces.entry(namespace.clone()).or_default();
        if let Some(service) = insert(services, slice) {
            concerned.push((namespace.clone(), service));
        }
        concerned
    }

    /// The EndpointSlice is gone. Returns the Services that may be different.
    pub(super) fn remove(&mut self, namespace: &Arc<str>, name: &str) -> Vec<Service> {
        let Some(services) = self.namespaces.get_mut(namespace) else { return Vec::new() };
        let mut concerned = Vec::new();
        services.retain(|service, slices| {
            if slices.remove(name).is_some() {
                concerned.push((namespace.clone(), service.clone()));
            }
            !slices.is_empty()
        });
        concerned
    }
}

/// Inserts it, if it is a Service's. Returns which one's.
fn insert(services: &mut Services, slice: EndpointSlice) -> Option<Arc<str>> {
    let service: Arc<str> = slice.service_name()?.into();
    let name = slice.metadata.name.clone();
    services.entry(service.clone()).or_default().insert(name, slice);
    Some(service)
}
