//! What others say of a Gateway's Service: whoever gives out addresses tells there why he doesn't.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, api::ListParams};
use l4way_resources::api::ObjectKey;

/// The last warning about a Service, with who gave it.
pub(crate) async fn last_warning(client: Client, service: ObjectKey) -> Option<String> {
    let api: Api<Event> = Api::namespaced(client, &service.namespace);
    let selector =
        format!("involvedObject.kind=Service,involvedObject.name={},type=Warning", service.name);
    match api.list(&ListParams::default().fields(&selector)).await {
        Ok(events) => events.items.into_iter().max_by_key(when).and_then(text),
        Err(error) => {
            tracing::debug!(%service, %error, "no look at the Service's Events");
            None
        }
    }
}

/// When it was said, in a form that can be compared.
fn when(event: &Event) -> String {
    let last = event.last_timestamp.as_ref().map(|time| time.0.to_string());
    let first = event.event_time.as_ref().map(|time| time.0.to_string());
    let made = event.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
    last.or(first).or(made).unwrap_or_default()
}

fn text(event: Event) -> Option<String> {
    let message = event.message?;
    let source = event.source.and_then(|source| source.component);
    let who = source.or(event.reporting_component).filter(|who| !who.is_empty());
    let reason = event.reason.unwrap_or_default();
    Some(match who {
        Some(who) => format!("{who} says {reason}: {message}"),
        None => format!("{reason}: {message}"),
    })
}
