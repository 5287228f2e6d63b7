//! The Kubernetes and Gateway API objects that l4way reads, as far as it reads them.
//!
//! One shape for each thing that several kinds have ([`ParentRef`], [`BackendRef`], [`Listener`],
//! …), where generated bindings have a copy per kind. Objects get here after validation and
//! defaulting, and every published version is read as `v1`: their schemas are the same.

mod backend;
mod class;
mod core;
mod gateway;
mod grant;
mod meta;
mod parameters;
mod policy;
mod refs;
mod route;

pub use backend::{
    Backend, BackendEndpoint, BackendFqdnEndpoint, BackendIpEndpoint, BackendSpec,
    BackendUnixEndpoint,
};
pub use class::{GatewayClass, GatewayClassSpec, ParametersRef};
pub use core::{
    ConfigMap, Container, ContainerPort, Deployment, DeploymentSpec, EndpointConditions,
    EndpointHints, EndpointPort, EndpointSlice, ForZone, IntOrString, Namespace, PodSpec,
    PodTemplate, Secret, Service, ServicePort, ServiceSpec, SliceEndpoint,
};
pub use gateway::{
    AllowedListeners, AllowedRoutes, FromNamespaces, Gateway, GatewayAddress, GatewayBackendTls,
    GatewayFrontendTls, GatewayInfrastructure, GatewaySpec, GatewayTls, Listener, ListenerSet,
    ListenerSetParentRef, ListenerSetSpec, ListenerTls, PortTls, RouteGroupKind, RouteNamespaces,
    TlsMode, TlsPeerConfig, TlsValidation,
};
pub use grant::{ReferenceGrant, ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo};
pub use meta::{
    LabelSelector, LabelSelectorRequirement, Object, ObjectKey, ObjectMeta, ObjectRef,
    SelectorOperator,
};
pub use parameters::{
    ExternalBackend, GatewayParameters, GatewayParametersSpec, HttpParameters, LogParameters,
    ServiceParameters,
};
pub use policy::{
    BackendTlsPolicy, BackendTlsPolicySpec, BackendTlsValidation, PolicyTargetRef, SubjectAltName,
};
pub use refs::{BackendRef, LocalObjectRef, ParentRef, SecretRef};
pub use route::{
    HttpFilter, HttpHeaderMatch, HttpPathMatch, HttpRouteMatch, Route, RouteKind, RouteRule,
    RouteSpec,
};
