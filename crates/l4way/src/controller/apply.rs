//! Requests to the API server.

use std::{borrow::Cow, sync::Arc};

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::{DynamicObject, Status},
};
use l4way_resources::api::ObjectKey;
use l4way_source_kube::{is_fenced, is_namespace_ending};
use serde_json::Value;

use super::{
    objects::{Kind, MANAGER, Object},
    ownership::{Holder, holder},
    plan::Step,
    work::Id,
};

/// The reasons of failures that nobody has to hear of: the namespace is about to end, or this replica leads
/// no longer.
pub(crate) const IS_NO_NEWS: [&str; 2] = [ENDING, NOT_LEADING];
const ENDING: &str = "ending";
const NOT_LEADING: &str = "not-leading";
/// The reason of a failure that another name mends: there is such an object, and it is somebody else's.
pub(crate) const FOREIGN: &str = "foreign";

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The object is now this.
    Applied(Object, Arc<Value>),
    /// The object is going.
    Deleted(Kind, ObjectKey, String),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A sentence for a person: which object, and why.
    pub(crate) message: String,
    /// Whether it takes somebody to change something; the rest may pass.
    pub(crate) is_refusal: bool,
    /// Which kind of failure, for the metrics.
    pub(crate) reason: &'static str,
}

/// Makes a request.
///
/// # Errors
/// Which object it is about, and why it failed.
pub(crate) async fn request(client: &Client, step: Step) -> Result<Answer, Failure> {
    let id = step.id();
    let answer = match step {
        Step::Apply { object, uid } => apply(client, object, uid).await,
        Step::Delete { kind, key, uid } => delete(client, kind, key, uid).await,
    };
    answer.map_err(|error| failure(&id, error))
}

enum Error {
    Kube(kube::Error),
    /// There is such an object, and it isn't the Gateway's.
    Theirs(Holder),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(error)
    }
}

fn api(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.resource())
}

/// Applies an object. If the Gateway has none of this name, there may be somebody else's.
async fn apply(client: &Client, object: Object, uid: Option<String>) -> Result<Answer, Error> {
    let api = api(client, object.kind, &object.key.namespace);
    let is_ours = match &uid {
        Some(_) => true,
        None => match api.get_metadata_opt(&object.key.name).await? {
            Some(found) => {
                let found =
                    serde_json::to_value(found.metadata).map_err(kube::Error::SerdeError)?;
                match holder(&found, &object.value["metadata"]) {
                    Holder::Itself => true,
                    theirs => return Err(Error::Theirs(theirs)),
                }
            }
            None => false,
        },
    };
    let params = PatchParams::apply(MANAGER);
    // What comes into being just now is somebody else's.
    let params = if is_ours { params.force() } else { params };
    let patch = exactly(&object, uid);
    let mut answer = api.patch(&object.key.name, &params, &Patch::Apply(&*patch)).await?;
    answer.metadata.managed_fields = None;
    let answer = serde_json::to_value(answer).map_err(kube::Error::SerdeError)?;
    Ok(Answer::Applied(object, Arc::new(answer)))
}

/// The object with the UID of the one that is meant: another that has come in its place isn't changed.
fn exactly(object: &Object, uid: Option<String>) -> Cow<'_, Value> {
    let mut value = Cow::Borrowed(&object.value);
    if let Some(uid) = uid {
        value.to_mut()["metadata"]["uid"] = uid.into();
    }
    value
}

async fn delete(client: &Client, kind: Kind, key: ObjectKey, uid: String) -> Result<Answer, Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
        ..DeleteParams::background()
    };
    match api(client, kind, &key.namespace).delete(&key.name, &params).await {
        Ok(_) => Ok(Answer::Deleted(kind, key, uid)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Answer::Deleted(kind, key, uid)),
        // A conflict doesn't say that it is gone. If another one has come in its place, the watch tells.
        Err(error) => Err(error.into()),
    }
}

fn failure(id: &Id, error: Error) -> Failure {
    let object = format!("{} {}", id.0.as_str(), id.1);
    let (is_refusal, reason, message) = match error {
        Error::Theirs(Holder::Earlier) => {
            let message =
                format!("{object} is an earlier Gateway's of this name, and goes with it");
            (false, "earlier", message)
        }
        Error::Theirs(_) => {
            let message = format!(
                "{object} is somebody else's (it doesn't belong to the Gateway's UID): rename or delete \
                 it, or rename the Gateway"
            );
            (true, FOREIGN, message)
        }
        // It goes with its namespace.
        Error::Kube(kube::Error::Api(status)) if is_namespace_ending(&status) => {
            (false, ENDING, format!("{object}: {}", status.message))
        }
        Error::Kube(kube::Error::Api(status)) => {
            let is_conflict = status.code == 409 || is_another(&status);
            // A conflict passes by itself, as does what begins with 5. Not found is what a binding gets
            // while the Role that was made just before it isn't known everywhere.
            let passes = is_conflict || matches!(status.code, 404 | 429);
            let reason = match status.code {
                _ if is_conflict => "conflict",
                403 => "forbidden",
                422 => "invalid",
                400..=499 => "refused",
                _ => "server",
            };
            let is_refusal = matches!(status.code, 400..=499) && !passes;
            (is_refusal, reason, format!("{object}: the API server refuses: {}", status.message))
        }
        Error::Kube(error) if is_fenced(&error) => {
            (false, NOT_LEADING, format!("{object}: {error}"))
        }
        Error::Kube(error) => {
            (false, "connection", format!("{object}: the API server can't be asked: {error}"))
        }
    };
    Failure { message, is_refusal, reason }
}

/// Whether an object of another UID has come in the place of the one that was meant.
fn is_another(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.any(|cause| cause.field == "metadata.uid")
}

#[cfg(test)]
mod tests;
