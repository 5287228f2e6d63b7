use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ForeignPolicy, Refused,
    api::{
        Backend, BackendTlsPolicy, ConfigMap, Deployment, EndpointSlice, Gateway, GatewayClass,
        GatewayParameters, ListenerSet, Namespace, ObjectKey, ObjectMeta, ObjectRef,
        ReferenceGrant, Route, RouteKind, Secret, Service,
    },
};

/// The objects of one kind, by namespace and name.
pub type Store<T> = BTreeMap<ObjectKey, Arc<T>>;

/// Every object that is in force, at one moment. Immutable once built; cloning one shares the
/// objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// GatewayClasses.
    pub gateway_classes: Store<GatewayClass>,
    /// Gateways.
    pub gateways: Store<Gateway>,
    /// ListenerSets.
    pub listener_sets: Store<ListenerSet>,
    /// Routes of every kind.
    pub routes: BTreeMap<(RouteKind, ObjectKey), Arc<Route>>,
    /// ReferenceGrants.
    pub reference_grants: Store<ReferenceGrant>,
    /// BackendTLSPolicies.
    pub backend_tls_policies: Store<BackendTlsPolicy>,
    /// Backends.
    pub backends: Store<Backend>,
    /// GatewayParameters.
    pub gateway_parameters: Store<GatewayParameters>,
    /// Namespaces.
    pub namespaces: Store<Namespace>,
    /// Services.
    pub services: Store<Service>,
    /// EndpointSlices.
    pub endpoint_slices: Store<EndpointSlice>,
    /// Secrets.
    pub secrets: Store<Secret>,
    /// ConfigMaps.
    pub config_maps: Store<ConfigMap>,
    /// Deployments.
    pub deployments: Store<Deployment>,
    /// Objects that are there and can't be used, of any kind.
    pub refused: Vec<Arc<Refused>>,
    /// Policies of other implementations, as far as they are read.
    pub foreign_policies: Vec<Arc<ForeignPolicy>>,
    /// Secrets and ConfigMaps that are there, but whose contents can't be read, and why.
    pub unread: BTreeMap<ObjectRef, Arc<str>>,
}

/// One object of any kind that a [`Snapshot`] holds.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is the kind of its name")]
pub enum AnyObject {
    GatewayClass(Arc<GatewayClass>),
    Gateway(Arc<Gateway>),
    ListenerSet(Arc<ListenerSet>),
    Route(RouteKind, Arc<Route>),
    ReferenceGrant(Arc<ReferenceGrant>),
    BackendTlsPolicy(Arc<BackendTlsPolicy>),
    Backend(Arc<Backend>),
    GatewayParameters(Arc<GatewayParameters>),
    Namespace(Arc<Namespace>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
    Deployment(Arc<Deployment>),
}

impl AnyObject {
    /// Reads a validated and defaulted object of this kind.
    ///
    /// `None` for a kind that a [`Snapshot`] doesn't hold.
    ///
    /// # Errors
    /// If the object doesn't have the kind's shape.
    pub fn from_value(
        kind: &str,
        value: &serde_json::Value,
    ) -> Option<Result<Self, serde_json::Error>> {
        fn read<T: serde::de::DeserializeOwned>(
            value: &serde_json::Value,
            wrap: impl FnOnce(Arc<T>) -> AnyObject,
        ) -> Result<AnyObject, serde_json::Error> {
            T::deserialize(value).map(|object| wrap(Arc::new(object)))
        }
        Some(match kind {
            "GatewayClass" => read(value, Self::GatewayClass),
            "Gateway" => read(value, Self::Gateway),
            "ListenerSet" => read(value, Self::ListenerSet),
            "ReferenceGrant" => read(value, Self::ReferenceGrant),
            "BackendTLSPolicy" => read(value, Self::BackendTlsPolicy),
            "Backend" => read(value, Self::Backend),
            "GatewayParameters" => read(value, Self::GatewayParameters),
            "Namespace" => read(value, Self::Namespace),
            "Service" => read(value, Self::Service),
            "EndpointSlice" => read(value, Self::EndpointSlice),
            "Secret" => read(value, Self::Secret),
            "ConfigMap" => read(value, Self::ConfigMap),
            "Deployment" => read(value, Self::Deployment),
            _ => {
                let kind = RouteKind::ALL.into_iter().find(|route| route.as_str() == kind)?;
                read(value, |route| Self::Route(kind, route))
            }
        })
    }

    /// The object's kind as the API spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::GatewayClass(_) => "GatewayClass",
            Self::Gateway(_) => "Gateway",
            Self::ListenerSet(_) => "ListenerSet",
            Self::Route(kind, _) => kind.as_str(),
            Self::ReferenceGrant(_) => "ReferenceGrant",
            Self::BackendTlsPolicy(_) => "BackendTLSPolicy",
            Self::Backend(_) => "Backend",
            Self::GatewayParameters(_) => "GatewayParameters",
            Self::Namespace(_) => "Namespace",
            Self::Service(_) => "Service",
            Self::EndpointSlice(_) => "EndpointSlice",
            Self::Secret(_) => "Secret",
            Self::ConfigMap(_) => "ConfigMap",
            Self::Deployment(_) => "Deployment",
        }
    }

    /// The object's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::GatewayClass(object) => &object.metadata,
            Self::Gateway(object) => &object.metadata,
            Self::ListenerSet(object) => &object.metadata,
            Self::Route(_, object) => &object.metadata,
            Self::ReferenceGrant(object) => &object.metadata,
            Self::BackendTlsPolicy(object) => &object.metadata,
            Self::Backend(object) => &object.metadata,
            Self::GatewayParameters(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
            Self::Deployment(object) => &object.metadata,
        }
    }

    /// The same object, with this generation.
    #[must_use]
    pub fn with_generation(mut self, generation: i64) -> Self {
        let metadata = match &mut self {
            Self::GatewayClass(object) => &mut Arc::make_mut(object).metadata,
            Self::Gateway(object) => &mut Arc::make_mut(object).metadata,
            Self::ListenerSet(object) => &mut Arc::make_mut(object).metadata,
            Self::Route(_, object) => &mut Arc::make_mut(object).metadata,
            Self::ReferenceGrant(object) => &mut Arc::make_mut(object).metadata,
            Self::BackendTlsPolicy(object) => &mut Arc::make_mut(object).metadata,
            Self::Backend(object) => &mut Arc::make_mut(object).metadata,
            Self::GatewayParameters(object) => &mut Arc::make_mut(object).metadata,
            Self::Namespace(object) => &mut Arc::make_mut(object).metadata,
            Self::Service(object) => &mut Arc::make_mut(object).metadata,
            Self::EndpointSlice(object) => &mut Arc::make_mut(object).metadata,
            Self::Secret(object) => &mut Arc::make_mut(object).metadata,
            Self::ConfigMap(object) => &mut Arc::make_mut(object).metadata,
            Self::Deployment(object) => &mut Arc::make_mut(object).metadata,
        };
        metadata.generation = generation;
        self
    }

    /// The object's kind, namespace and name.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef::new(self.kind(), self.metadata().key())
    }
}

impl Snapshot {
    /// Puts an object in, in place of the one of its kind, namespace and name.
    pub fn insert(&mut self, object: AnyObject) {
        let key = object.metadata().key();
        match object {
            AnyObject::GatewayClass(object) => drop(self.gateway_classes.insert(key, object)),
            AnyObject::Gateway(object) => drop(self.gateways.insert(key, object)),
            AnyObject::ListenerSet(object) => drop(self.listener_sets.insert(key, object)),
            AnyObject::Route(kind, object) => drop(self.routes.insert((kind, key), object)),
            AnyObject::ReferenceGrant(object) => drop(self.reference_grants.insert(key, object)),
            AnyObject::BackendTlsPolicy(object) => {
                drop(self.backend_tls_policies.insert(key, object));
            }
            AnyObject::Backend(object) => drop(self.backends.insert(key, object)),
            AnyObject::GatewayParameters(object) => {
                drop(self.gateway_parameters.insert(key, object));
            }
            AnyObject::Namespace(object) => drop(self.namespaces.insert(key, object)),
            AnyObject::Service(object) => drop(self.services.insert(key, object)),
            AnyObject::EndpointSlice(object) => drop(self.endpoint_slices.insert(key, object)),
            AnyObject::Secret(object) => drop(self.secrets.insert(key, object)),
            AnyObject::ConfigMap(object) => drop(self.config_maps.insert(key, object)),
            AnyObject::Deployment(object) => drop(self.deployments.insert(key, object)),
        }
    }
}

impl Snapshot {
    /// Takes an object out; whether it was there.
    pub fn remove(&mut self, object: &ObjectRef) -> bool {
        let key = &object.key;
        match &*object.kind {
            "GatewayClass" => self.gateway_classes.remove(key).is_some(),
            "Gateway" => self.gateways.remove(key).is_some(),
            "ListenerSet" => self.listener_sets.remove(key).is_some(),
            "ReferenceGrant" => self.reference_grants.remove(key).is_some(),
            "BackendTLSPolicy" => self.backend_tls_policies.remove(key).is_some(),
            "Backend" => self.backends.remove(key).is_some(),
            "GatewayParameters" => self.gateway_parameters.remove(key).is_some(),
            "Namespace" => self.namespaces.remove(key).is_some(),
            "Service" => self.services.remove(key).is_some(),
            "EndpointSlice" => self.endpoint_slices.remove(key).is_some(),
            "Secret" => self.secrets.remove(key).is_some(),
            "ConfigMap" => self.config_maps.remove(key).is_some(),
            "Deployment" => self.deployments.remove(key).is_some(),
            kind => RouteKind::ALL
                .into_iter()
                .find(|route| route.as_str() == kind)
                .is_some_and(|route| self.routes.remove(&(route, key.clone())).is_some()),
        }
    }
}

impl Snapshot {
    /// The object of this kind and key that is there and can't be used, or one that may be it.
    pub fn refused(&self, kind: &str, key: &ObjectKey) -> Option<&Refused> {
        let is_it = |refused: &&Arc<Refused>| {
            let reference = refused.reference();
            reference.is_some_and(|reference| *reference.kind == *kind && reference.key == *key)
        };
        let may_be_it = |refused: &&Arc<Refused>| refused.may_be(kind, key);
        let exact = self.refused.iter().find(is_it);
        exact.or_else(|| self.refused.iter().find(may_be_it)).map(|refused| &**refused)
    }

    /// Whether an object of this kind is there that can't be used.
    pub fn has_refused(&self, kind: &str) -> bool {
        self.refused.iter().any(|refused| *refused.kind == *kind)
    }

    /// Whether both hold the very same objects: an object that was read again is another, however
    /// much it is the same. Quick, for it looks into none.
    pub fn is_same(&self, other: &Self) -> bool {
        fn same<K: PartialEq, T>(a: &BTreeMap<K, Arc<T>>, b: &BTreeMap<K, Arc<T>>) -> bool {
            let mut pairs = a.iter().zip(b);
            a.len() == b.len() && pairs.all(|(a, b)| Arc::ptr_eq(a.1, b.1) && a.0 == b.0)
        }
        same(&self.gateway_classes, &other.gateway_classes)
            && same(&self.gateways, &other.gateways)
            && same(&self.listener_sets, &other.listener_sets)
            && same(&self.routes, &other.routes)
            && same(&self.reference_grants, &other.reference_grants)
            && same(&self.backend_tls_policies, &other.backend_tls_policies)
            && same(&self.backends, &other.backends)
            && same(&self.gateway_parameters, &other.gateway_parameters)
            && same(&self.namespaces, &other.namespaces)
            && same(&self.services, &other.services)
            && same(&self.endpoint_slices, &other.endpoint_slices)
            && same(&self.secrets, &other.secrets)
            && same(&self.config_maps, &other.config_maps)
            && same(&self.deployments, &other.deployments)
            && self.refused.len() == other.refused.len()
            && self.refused.iter().zip(&other.refused).all(|(a, b)| Arc::ptr_eq(a, b))
            && self.foreign_policies == other.foreign_policies
            && self.unread == other.unread
    }
}

impl FromIterator<AnyObject> for Snapshot {
    fn from_iter<I: IntoIterator<Item = AnyObject>>(objects: I) -> Self {
        let mut snapshot = Self::default();
        objects.into_iter().for_each(|object| snapshot.insert(object));
        snapshot
    }
}
