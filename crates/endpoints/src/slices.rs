use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use l4way_resources::api::EndpointSlice;

/// A Service's namespace and name.
pub type Service = (Arc<str>, Arc<str>);

/// EndpointSlices by namespace, Service and name.
#[derive(Debug, Default)]
pub struct Slices {
    namespaces: BTreeMap<Arc<str>, Namespace>,
}

/// The EndpointSlices of a namespace.
#[derive(Debug, Default)]
struct Namespace {
    services: BTreeMap<Arc<str>, BTreeMap<Arc<str>, EndpointSlice>>,
    /// Whose each of them is, by its name.
    service_of: HashMap<Arc<str>, Arc<str>>,
}

impl Slices {
    /// Whether the EndpointSlices of the namespace have been listed.
    pub fn knows(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The EndpointSlices of a Service.
    pub fn of(&self, namespace: &str, service: &str) -> Vec<&EndpointSlice> {
        let namespace = self.namespaces.get(namespace);
        let slices = namespace.and_then(|namespace| namespace.services.get(service));
        slices.into_iter().flat_map(BTreeMap::values).collect()
    }

    /// Forgets all namespaces but these.
    pub fn retain(&mut self, namespaces: &BTreeSet<Arc<str>>) {
        self.namespaces.retain(|namespace, _| namespaces.contains(namespace));
    }

    /// These are all EndpointSlices of the namespace. Returns the Services that may be different:
    /// all that there are and were.
    pub fn replace(&mut self, namespace: &Arc<str>, slices: Vec<EndpointSlice>) -> Vec<Service> {
        let mut now = Namespace::default();
        for slice in slices {
            now.insert(slice);
        }
        let before = self.namespaces.remove(namespace).unwrap_or_default();
        let all: BTreeSet<_> =
            before.services.into_keys().chain(now.services.keys().cloned()).collect();
        self.namespaces.insert(namespace.clone(), now);
        all.into_iter().map(|service| (namespace.clone(), service)).collect()
    }

    /// The EndpointSlice is new, or different. Returns the Services that may be different.
    pub fn set(&mut self, namespace: &Arc<str>, slice: EndpointSlice) -> Vec<Service> {
        let slices = self.namespaces.entry(namespace.clone()).or_default();
        // Its label may have named another Service before.
        let before = slices.remove(&slice.metadata.name);
        let now = slices.insert(slice);
        let concerned =
            before.clone().into_iter().chain(now.filter(|now| before.as_ref() != Some(now)));
        concerned.map(|service| (namespace.clone(), service)).collect()
    }

    /// The EndpointSlice is gone. Returns the Services that may be different.
    pub fn remove(&mut self, namespace: &Arc<str>, name: &str) -> Vec<Service> {
        let slices = self.namespaces.get_mut(namespace);
        let service = slices.and_then(|slices| slices.remove(name));
        service.into_iter().map(|service| (namespace.clone(), service)).collect()
    }
}

impl Namespace {
    /// Inserts an EndpointSlice, if it is a Service's, in the place of one of its name. Returns which one's.
    fn insert(&mut self, slice: EndpointSlice) -> Option<Arc<str>> {
        // A list that is read in pages may have one twice, the second time as another Service's.
        self.remove(&slice.metadata.name);
        let service: Arc<str> = slice.service_name()?.into();
        let name = slice.metadata.name.clone();
        self.service_of.insert(name.clone(), service.clone());
        self.services.entry(service.clone()).or_default().insert(name, slice);
        Some(service)
    }

    /// Takes an EndpointSlice out. Returns whose it was.
    fn remove(&mut self, name: &str) -> Option<Arc<str>> {
        let service = self.service_of.remove(name)?;
        if let Some(slices) = self.services.get_mut(&service) {
            slices.remove(name);
            if slices.is_empty() {
                self.services.remove(&service);
            }
        }
        Some(service)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(name: &str, service: &str) -> EndpointSlice {
        let labels = json!({ EndpointSlice::SERVICE_NAME_LABEL: service });
        let metadata = json!({ "name": name, "labels": labels });
        serde_json::from_value(json!({ "metadata": metadata, "addressType": "IPv4" })).unwrap()
    }

    #[test]
    fn changes_say_which_services_they_concern() {
        let namespace: Arc<str> = "default".into();
        let mut slices = Slices::default();
        let service = |name: &str| -> Service { (namespace.clone(), name.into()) };
        assert!(!slices.knows("default"));

        let listed = vec![slice("a", "db"), slice("b", "web")];
        assert_eq!(slices.replace(&namespace, listed), [service("db"), service("web")]);
        assert!(slices.knows("default"));
        assert_eq!(slices.of("default", "db").len(), 1);

        assert_eq!(slices.set(&namespace, slice("c", "db")), [service("db")]);
        assert_eq!(slices.set(&namespace, slice("c", "db")), [service("db")]);
        assert_eq!(slices.of("default", "db").len(), 2);
        let moved = slices.set(&namespace, slice("c", "web"));
        assert_eq!(moved, [service("db"), service("web")]);
        assert_eq!((slices.of("default", "db").len(), slices.of("default", "web").len()), (1, 2));

        assert_eq!(slices.remove(&namespace, "a"), [service("db")]);
        assert_eq!(slices.remove(&namespace, "a"), []);
        assert!(slices.of("default", "db").is_empty() && slices.knows("default"));

        assert_eq!(slices.replace(&namespace, Vec::new()), [service("web")]);
        slices.retain(&BTreeSet::new());
        assert!(!slices.knows("default"));
    }

    #[test]
    fn of_a_slice_that_is_listed_twice_the_second_counts() {
        let namespace: Arc<str> = "default".into();
        let mut slices = Slices::default();
        slices.replace(&namespace, vec![slice("a", "db"), slice("a", "web")]);
        assert_eq!((slices.of("default", "db").len(), slices.of("default", "web").len()), (0, 1));
        slices.remove(&namespace, "a");
        assert!(slices.of("default", "db").is_empty() && slices.of("default", "web").is_empty());
    }
}
