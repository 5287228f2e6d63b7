//! Every condition outcome there is, each with a constructor of its own, in the words of the
//! Gateway API v1.6.1 (`apis/v1/*_types.go`). A constructor that gives several outcomes names what
//! happened; the outcomes are its consequences.

use std::borrow::Cow;

use l4way_model::PathReport;
use l4way_resources::status::ConditionStatus::{self, False, True, Unknown};

use crate::finding::Outcome;

/// Whether the object is valid, and taken up by the controller.
pub(crate) const ACCEPTED: &str = "Accepted";
/// Whether the data plane runs it.
pub(crate) const PROGRAMMED: &str = "Programmed";
/// Whether everything that it refers to is there and may be used.
pub(crate) const RESOLVED_REFS: &str = "ResolvedRefs";
/// Whether other listeners leave no room for it.
pub(crate) const CONFLICTED: &str = "Conflicted";
/// Whether another listener on the port could be asked for in its place.
pub(crate) const OVERLAPPING_TLS_CONFIG: &str = "OverlappingTLSConfig";
/// Whether clients get in without a valid certificate.
pub(crate) const INSECURE_FRONTEND_VALIDATION_MODE: &str = "InsecureFrontendValidationMode";
/// Whether some of a route's rules are left out.
pub(crate) const PARTIALLY_INVALID: &str = "PartiallyInvalid";
/// The type of the condition on routes that another route keeps from a listener.
pub(crate) const SUPERSEDED: &str = "l4way.dev/Superseded";

type Message = Cow<'static, str>;

fn outcome(
    kind: &'static str,
    status: ConditionStatus,
    reason: &'static str,
    message: impl Into<Message>,
) -> Outcome {
    Outcome { kind, status, reason, message: message.into() }
}

/// Two conditions that are false for the same reason.
fn refused(reason: &'static str, message: impl Into<Message>) -> [Outcome; 2] {
    let message = message.into();
    [outcome(ACCEPTED, False, reason, message.clone()), outcome(PROGRAMMED, False, reason, message)]
}

/// Not accepted for this reason, and so of no use to the data plane.
fn unfit(reason: &'static str, message: impl Into<Message>) -> [Outcome; 2] {
    let message = message.into();
    [
        outcome(ACCEPTED, False, reason, message.clone()),
        outcome(PROGRAMMED, False, "Invalid", message),
    ]
}

/// Every reference leads somewhere: of a Gateway, a listener, a route or a policy.
pub(crate) fn resolved_refs() -> Outcome {
    outcome(RESOLVED_REFS, True, "ResolvedRefs", "All references are resolved.")
}

/// No ReferenceGrant permits a reference to another namespace: of a Gateway, a listener or a route.
pub(crate) fn ref_not_permitted(message: impl Into<Message>) -> Outcome {
    outcome(RESOLVED_REFS, False, "RefNotPermitted", message)
}

/// Outcomes for GatewayClasses.
pub(crate) mod class {
    use super::*;

    pub(crate) fn accepted() -> Outcome {
        outcome(ACCEPTED, True, "Accepted", "GatewayClass is accepted.")
    }

    pub(crate) fn invalid_parameters(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, False, "InvalidParameters", message)
    }
}

/// Outcomes for Gateways.
pub(crate) mod gateway {
    use super::*;

    pub(crate) fn accepted() -> Outcome {
        outcome(ACCEPTED, True, "Accepted", "Gateway is accepted.")
    }

    /// No listener is valid.
    pub(crate) fn no_listener_valid(message: impl Into<Message>) -> [Outcome; 2] {
        unfit("ListenersNotValid", message)
    }

    pub(crate) fn invalid_parameters(message: impl Into<Message>) -> [Outcome; 2] {
        unfit("InvalidParameters", message)
    }

    pub(crate) fn unsupported_address(message: impl Into<Message>) -> [Outcome; 2] {
        unfit("UnsupportedAddress", message)
    }

    /// The GatewayClass is not accepted, so nothing of the Gateway can be.
    pub(crate) fn class_not_accepted(message: impl Into<Message>) -> [Outcome; 2] {
        unfit("Invalid", message)
    }

    /// It can't be used as it is written.
    pub(crate) fn invalid(message: impl Into<Message>) -> [Outcome; 2] {
        unfit("Invalid", message)
    }

    pub(crate) fn address_not_usable(message: impl Into<Message>) -> Outcome {
        outcome(PROGRAMMED, False, "AddressNotUsable", message)
    }

    pub(crate) fn address_not_assigned(message: impl Into<Message>) -> Outcome {
        outcome(PROGRAMMED, False, "AddressNotAssigned", message)
    }

    pub(crate) fn invalid_client_certificate_ref(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "InvalidClientCertificateRef", message)
    }

    pub(crate) fn listeners_not_resolved(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "ListenersNotResolved", message)
    }

    pub(crate) fn insecure_frontend_validation(message: impl Into<Message>) -> Outcome {
        outcome(INSECURE_FRONTEND_VALIDATION_MODE, True, "ConfigurationChanged", message)
    }
}

/// A proxy can't take the configuration, and carries the one before.
pub(crate) fn proxy_outdated(message: impl Into<Message>) -> Outcome {
    outcome(PROGRAMMED, False, "ProxyOutdated", message)
}

/// Outcomes for Gateways and ListenerSets alike, which sum up their listeners.
pub(crate) mod listeners {
    use super::*;

    /// Some listeners are not valid, others are.
    pub(crate) fn some_not_valid(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, True, "ListenersNotValid", message)
    }

    pub(crate) fn programmed(message: impl Into<Message>) -> Outcome {
        outcome(PROGRAMMED, True, "Programmed", message)
    }

    /// None of the listeners is carried, by this version or at this moment.
    pub(crate) fn nothing_programmed(message: impl Into<Message>) -> Outcome {
        outcome(PROGRAMMED, False, "Pending", message)
    }

    /// The proxy has not reported yet.
    pub(crate) fn programming() -> Outcome {
        outcome(PROGRAMMED, Unknown, "Pending", "Waiting for the proxy to report its listeners.")
    }

    /// The proxies can't take sessions yet.
    pub(crate) fn proxies_not_ready(message: impl Into<Message>) -> Outcome {
        outcome(PROGRAMMED, False, "Pending", message)
    }
}

/// Outcomes for ListenerSets.
pub(crate) mod listener_set {
    use super::*;

    pub(crate) fn accepted() -> Outcome {
        outcome(ACCEPTED, True, "Accepted", "ListenerSet is accepted by the Gateway.")
    }

    /// No listener is valid.
    pub(crate) fn no_listener_valid(message: impl Into<Message>) -> [Outcome; 2] {
        refused("ListenersNotValid", message)
    }

    pub(crate) fn not_allowed(message: impl Into<Message>) -> [Outcome; 2] {
        refused("NotAllowed", message)
    }

    pub(crate) fn parent_not_accepted(message: impl Into<Message>) -> [Outcome; 2] {
        let message = message.into();
        [
            outcome(ACCEPTED, False, "ParentNotAccepted", message.clone()),
            outcome(PROGRAMMED, False, "ParentNotProgrammed", message),
        ]
    }
}

/// Outcomes for listeners, of Gateways and of ListenerSets alike.
pub(crate) mod listener {
    use super::*;

    pub(crate) fn accepted() -> Outcome {
        outcome(ACCEPTED, True, "Accepted", "Listener is accepted.")
    }

    pub(crate) fn no_conflicts() -> Outcome {
        outcome(CONFLICTED, False, "NoConflicts", "Listener has no conflicts.")
    }

    pub(crate) fn programmed(path: Option<&PathReport>) -> Outcome {
        let message: Message = match path {
            None => "Listener takes sessions.".into(),
            Some(PathReport::Kernel) => "Listener takes sessions, which the kernel carries.".into(),
            Some(PathReport::Proxy(why)) => {
                format!("Listener takes sessions, which the proxy carries: {why}.").into()
            }
        };
        outcome(PROGRAMMED, True, "Programmed", message)
    }

    pub(crate) fn protocol_conflict(message: impl Into<Message>) -> [Outcome; 3] {
        conflict("ProtocolConflict", message)
    }

    pub(crate) fn hostname_conflict(message: impl Into<Message>) -> [Outcome; 3] {
        conflict("HostnameConflict", message)
    }

    fn conflict(reason: &'static str, message: impl Into<Message>) -> [Outcome; 3] {
        let message = message.into();
        let [accepted, programmed] = refused(reason, message.clone());
        [outcome(CONFLICTED, True, reason, message), accepted, programmed]
    }

    pub(crate) fn unsupported_protocol(message: impl Into<Message>) -> [Outcome; 2] {
        unfit("UnsupportedProtocol", message)
    }

    pub(crate) fn unsupported_value(message: impl Into<Message>) -> [Outcome; 2] {
        unfit("UnsupportedValue", message)
    }

    pub(crate) fn port_unavailable(message: impl Into<Message>) -> [Outcome; 2] {
        refused("PortUnavailable", message)
    }

    /// Some of the kinds that it allows don't exist or don't fit its protocol.
    pub(crate) fn invalid_route_kinds(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "InvalidRouteKinds", message)
    }

    pub(crate) fn invalid_certificate_ref(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "InvalidCertificateRef", message)
    }

    pub(crate) fn invalid_ca_certificate_ref(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "InvalidCACertificateRef", message)
    }

    pub(crate) fn invalid_ca_certificate_kind(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "InvalidCACertificateKind", message)
    }

    /// None of the authorities that clients' certificates are checked against is there.
    pub(crate) fn no_valid_ca_certificate(message: impl Into<Message>) -> [Outcome; 2] {
        unfit("NoValidCACertificate", message)
    }

    pub(crate) fn overlapping_hostnames(message: impl Into<Message>) -> Outcome {
        outcome(OVERLAPPING_TLS_CONFIG, True, "OverlappingHostnames", message)
    }

    pub(crate) fn overlapping_certificates(message: impl Into<Message>) -> Outcome {
        outcome(OVERLAPPING_TLS_CONFIG, True, "OverlappingCertificates", message)
    }

    /// It can't run as it is, whatever else is said of it.
    pub(crate) fn invalid(message: impl Into<Message>) -> Outcome {
        outcome(PROGRAMMED, False, "Invalid", message)
    }

    /// The Gateway's address can't be bound.
    pub(crate) fn address_not_usable(message: impl Into<Message>) -> Outcome {
        outcome(PROGRAMMED, False, "AddressNotUsable", message)
    }

    /// The proxies can't take sessions yet.
    pub(crate) fn proxies_not_ready(message: impl Into<Message>) -> Outcome {
        outcome(PROGRAMMED, False, "Pending", message)
    }

    /// The proxy has not reported yet.
    pub(crate) fn programming() -> Outcome {
        outcome(PROGRAMMED, Unknown, "Pending", "Waiting for the proxy to report the listener.")
    }
}

/// Outcomes for routes, of every kind.
pub(crate) mod route {
    use super::*;

    pub(crate) fn accepted() -> Outcome {
        outcome(ACCEPTED, True, "Accepted", "Route is accepted by the Gateway.")
    }

    pub(crate) fn no_matching_parent(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, False, "NoMatchingParent", message)
    }

    pub(crate) fn not_allowed_by_listeners(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, False, "NotAllowedByListeners", message)
    }

    pub(crate) fn no_matching_listener_hostname(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, False, "NoMatchingListenerHostname", message)
    }

    /// It wants nothing but what this version doesn't implement.
    pub(crate) fn not_implemented(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, False, "UnsupportedValue", message)
    }

    pub(crate) fn dropped_rules(message: impl Into<Message>) -> Outcome {
        outcome(PARTIALLY_INVALID, True, "UnsupportedValue", message)
    }

    /// Another route has precedence on a listener.
    pub(crate) fn superseded(message: impl Into<Message>) -> Outcome {
        outcome(SUPERSEDED, True, "OtherRouteHasPrecedence", message)
    }

    pub(crate) fn invalid_kind(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "InvalidKind", message)
    }

    pub(crate) fn backend_not_found(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "BackendNotFound", message)
    }

    pub(crate) fn unsupported_protocol(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "UnsupportedProtocol", message)
    }

    pub(crate) fn unsupported_value(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "UnsupportedValue", message)
    }
}

/// Outcomes for BackendTLSPolicies.
pub(crate) mod policy {
    use super::*;

    /// The reason of [`target_not_found`].
    pub(crate) const TARGET_NOT_FOUND: &str = "TargetNotFound";

    pub(crate) fn accepted() -> Outcome {
        outcome(ACCEPTED, True, "Accepted", "Policy is accepted.")
    }

    /// Another policy has precedence for what it is for.
    pub(crate) fn conflicted(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, False, "Conflicted", message)
    }

    /// It asks for what can't be had.
    pub(crate) fn invalid(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, False, "Invalid", message)
    }

    pub(crate) fn target_not_found(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, False, TARGET_NOT_FOUND, message)
    }

    pub(crate) fn no_valid_ca_certificate(message: impl Into<Message>) -> Outcome {
        outcome(ACCEPTED, False, "NoValidCACertificate", message)
    }

    pub(crate) fn invalid_ca_certificate_ref(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "InvalidCACertificateRef", message)
    }

    pub(crate) fn invalid_kind(message: impl Into<Message>) -> Outcome {
        outcome(RESOLVED_REFS, False, "InvalidKind", message)
    }
}
