//! The kinds that are followed, and in which version.

use kube::core::ApiResource;
use l4way_resources::{GATEWAY_GROUP, L4WAY_GROUP};

use crate::place::Scope;

/// A kind that is read into a [`Snapshot`](l4way_resources::Snapshot).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) scope: Scope,
    /// Whether l4way writes a status of it.
    pub(crate) has_status: bool,
    /// Which objects are of no use, as a field selector.
    pub(crate) fields: Option<&'static str>,
    /// Whether only metadata is followed, and what objects hold is read where it is wanted: others make
    /// many of them, large ones, and few are of use.
    pub(crate) outlines: bool,
}

/// The Secrets that hold no certificate: l4way's own, Helm's, and the API server's.
const SECRETS: &str =
    "type!=l4way.dev/config,type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token";

/// The kind of policies that have a status of ours.
pub(crate) const POLICY: &str = "BackendTLSPolicy";

const fn kind(name: &'static str, group: &'static str, plural: &'static str) -> Kind {
    let scope = Scope::Namespaced;
    Kind { name, group, plural, scope, has_status: false, fields: None, outlines: false }
}

const fn outlines(mut kind: Kind) -> Kind {
    kind.outlines = true;
    kind
}

const fn with_status(mut kind: Kind) -> Kind {
    kind.has_status = true;
    kind
}

/// The kinds that CRDs define. A cluster may lack them, and serve them in one version or another.
static DEFINED: [Kind; 11] = [
    with_status(Kind {
        scope: Scope::Cluster,
        ..kind("GatewayClass", GATEWAY_GROUP, "gatewayclasses")
    }),
    with_status(kind("Gateway", GATEWAY_GROUP, "gateways")),
    with_status(kind("ListenerSet", GATEWAY_GROUP, "listenersets")),
    with_status(kind("TCPRoute", GATEWAY_GROUP, "tcproutes")),
    with_status(kind("UDPRoute", GATEWAY_GROUP, "udproutes")),
    with_status(kind("TLSRoute", GATEWAY_GROUP, "tlsroutes")),
    with_status(kind("HTTPRoute", GATEWAY_GROUP, "httproutes")),
    kind("ReferenceGrant", GATEWAY_GROUP, "referencegrants"),
    with_status(kind(POLICY, GATEWAY_GROUP, "backendtlspolicies")),
    kind("Backend", L4WAY_GROUP, "backends"),
    kind("GatewayParameters", L4WAY_GROUP, "gatewayparameters"),
];

/// The kinds that every cluster has, as `v1`.
static BUILT_IN: [Kind; 5] = [
    Kind { scope: Scope::Namespaces, ..kind("Namespace", "", "namespaces") },
    kind("Service", "", "services"),
    Kind { fields: Some(SECRETS), ..outlines(kind("Secret", "", "secrets")) },
    outlines(kind("ConfigMap", "", "configmaps")),
    kind("EndpointSlice", "discovery.k8s.io", "endpointslices"),
];

/// Versions from the most to the least wanted. Their shapes are the same.
const VERSIONS: [&str; 5] = ["v1", "v1beta1", "v1alpha3", "v1alpha2", "v1alpha1"];

impl Kind {
    /// The kinds that CRDs define.
    pub(crate) fn defined() -> &'static [Self] {
        &DEFINED
    }

    /// The kinds that every cluster has, as `v1`.
    pub(crate) fn built_in(endpoint_slices: bool) -> impl Iterator<Item = &'static Self> {
        BUILT_IN.iter().filter(move |kind| endpoint_slices || kind.name != "EndpointSlice")
    }

    /// The kind of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        DEFINED.iter().chain(&BUILT_IN).find(|kind| kind.name == name)
    }

    /// The kind that the CRD of this name defines.
    pub(crate) fn defined_by(crd: &str) -> Option<&'static Self> {
        let (plural, group) = crd.split_once('.')?;
        DEFINED.iter().find(|kind| kind.plural == plural && kind.group == group)
    }

    /// The name of the kind's CRD.
    pub(crate) fn crd(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// Whether l4way writes a status that has entries of several controllers: of a route or policy.
    pub(crate) fn has_entries(&self) -> bool {
        self.has_status && (self.name.ends_with("Route") || self.name == POLICY)
    }

    /// What the API calls the kind in this version.
    pub(crate) fn resource(&self, version: &str) -> ApiResource {
        resource(self.group, version, self.name, self.plural)
    }
}

/// What the API calls a kind.
pub(crate) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// The version to follow out of those that are served.
pub(crate) fn choose<'a>(served: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    VERSIONS.into_iter().find(|wanted| served.clone().any(|served| served == *wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stable_version_that_is_served_is_chosen() {
        let chosen = |served: &[&'static str]| choose(served.iter().copied());
        assert_eq!(chosen(&["v1alpha2", "v1"]), Some("v1"));
        assert_eq!(chosen(&["v1alpha2", "v1alpha3"]), Some("v1alpha3"));
        assert_eq!(chosen(&["v1beta1", "v1alpha2"]), Some("v1beta1"));
        assert_eq!(chosen(&["v2"]), None);
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn a_crd_is_known_by_its_name() {
        for kind in Kind::defined() {
            assert_eq!(Kind::defined_by(&kind.crd()), Some(kind));
        }
        assert_eq!(Kind::defined_by("gateways.networking.istio.io"), None);
        assert_eq!(Kind::defined_by("grpcroutes.gateway.networking.k8s.io"), None);
    }

    #[test]
    fn the_core_group_has_no_name() {
        assert_eq!(Kind::named("Secret").unwrap().resource("v1").api_version, "v1");
        let slices = Kind::named("EndpointSlice").unwrap().resource("v1");
        assert_eq!(slices.api_version, "discovery.k8s.io/v1");
    }
}
