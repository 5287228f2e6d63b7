//! What proxies say of themselves in their pods' Leases.

use l4way_delivery::{
    ACKNOWLEDGEMENT_ANNOTATION, Acknowledgement, DocumentKind, ENDPOINTS_ANNOTATION,
    EndpointSummary, IDENTITY_ANNOTATION, Identity, Names,
};
use l4way_resources::api::ObjectKey;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::controller::{objects::Kind, ownership::Owned};

/// What was delivered, by the hashes of its documents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered<'a> {
    pub(crate) config: &'a str,
    pub(crate) keys: Option<&'a str>,
}

/// What a proxy has said, as far as it can be read.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Missing also in what was written before there were versions.
    pub(crate) identity: Option<Identity>,
    pub(crate) acknowledgement: Option<Acknowledgement>,
    /// Empty also of proxies that don't tell.
    pub(crate) endpoints: EndpointSummary,
}

/// What the proxy in a pod has said.
pub(crate) fn answer(names: &Names, owned: &Owned, key: &ObjectKey, pod: &Value) -> Answer {
    let Some(uid) = pod["metadata"]["uid"].as_str() else { return Answer::default() };
    let lease = ObjectKey::new(key.namespace.clone(), names.lease(uid));
    let Some(lease) = owned.get(&(Kind::Lease, lease)) else { return Answer::default() };
    Answer {
        identity: annotation(lease, IDENTITY_ANNOTATION),
        acknowledgement: annotation(lease, ACKNOWLEDGEMENT_ANNOTATION),
        endpoints: annotation(lease, ENDPOINTS_ANNOTATION).unwrap_or_default(),
    }
}

fn annotation<T: DeserializeOwned>(lease: &Value, name: &str) -> Option<T> {
    serde_json::from_str(lease["metadata"]["annotations"][name].as_str()?).ok()
}

/// Why a proxy can't take what was delivered, as sentences about a pod that serves what was before.
pub(super) fn why_refused(
    key: &ObjectKey,
    answer: &Answer,
    delivered: Delivered<'_>,
) -> Option<String> {
    let why = refusal(answer, delivered)?;
    let serves = match answer.acknowledgement {
        Some(_) => "still serves the configuration before",
        None => "serves nothing",
    };
    Some(format!("Pod {key} runs {why}. The pod {serves}. To mend this, {CURE}."))
}

/// Why a proxy can't take what was delivered, after the words "the pod runs".
pub(super) fn refusal(answer: &Answer, delivered: Delivered<'_>) -> Option<String> {
    let Some(identity) = &answer.identity else {
        let said = answer.acknowledgement.as_ref()?;
        return (said.hash != delivered.config)
            .then(|| "an l4way from before 0.1.0, which can't read the configuration".to_owned());
    };
    let refused = |kind: DocumentKind, hash: Option<&str>| {
        let refused = identity.refused.get(&kind)?;
        (hash == Some(&refused.hash)).then(|| {
            let (version, noun, why) = (&identity.version, kind.noun(), &refused.refusal);
            format!("l4way {version}, which refuses the {noun} because {why}")
        })
    };
    refused(DocumentKind::Config, Some(delivered.config))
        .or_else(|| refused(DocumentKind::Keys, delivered.keys))
}

/// Why a proxy runs something else than what was delivered, as a clause about it; nothing if it runs that.
pub(crate) fn why_behind(answer: &Answer, delivered: Delivered<'_>) -> Option<String> {
    if let Some(why) = refusal(answer, delivered) {
        return Some(format!("runs {why}"));
    }
    match &answer.acknowledgement {
        Some(said) if said.hash != delivered.config => {
            Some("has not confirmed the latest configuration".to_owned())
        }
        Some(said) if said.keys.as_deref() != delivered.keys => {
            Some("has not confirmed the latest certificates".to_owned())
        }
        Some(_) => None,
        None => Some("has not confirmed any configuration".to_owned()),
    }
}

/// What to do about a proxy that refuses.
pub(super) const CURE: &str =
    "give the Gateway's proxies a newer image, or take `image` out of its GatewayParameters";
