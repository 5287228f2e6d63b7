use kube::core::{ApiResource, GroupVersionKind};

/// A kind of object that is made for a Gateway, or by what is made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    ServiceAccount,
    Role,
    RoleBinding,
    Secret,
    Lease,
    Service,
    PodDisruptionBudget,
    NetworkPolicy,
    Pod,
    ReplicaSet,
    Deployment,
}

impl Kind {
    /// The kind as the API spells it.
    pub(crate) fn as_str(self) -> &'static str {
        self.parts().2
    }

    /// Its group and version.
    pub(crate) fn api_version(self) -> String {
        self.resource().api_version
    }

    /// How the API server knows it.
    pub(crate) fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.parts();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    fn parts(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::Role => ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
            Self::RoleBinding => ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Lease => ("coordination.k8s.io", "v1", "Lease", "leases"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::PodDisruptionBudget => {
                ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
            }
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::ReplicaSet => ("apps", "v1", "ReplicaSet", "replicasets"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
        }
    }
}
