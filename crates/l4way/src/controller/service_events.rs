//! What others say of a Gateway's Service: whoever gives out addresses tells there why he doesn't.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, api::ListParams};
use l4way_resources::api::ObjectKey;

/// How many Events are in memory at a time.
const PAGE: u32 = 50;

/// The last warning about the Service of this UID, with who gave it.
pub(crate) async fn last_warning(
    client: Client,
    service: ObjectKey,
    uid: String,
) -> Option<String> {
    let api: Api<Event> = Api::namespaced(client, &service.namespace);
    let selector = format!("involvedObject.kind=Service,involvedObject.uid={uid},type=Warning");
    match last_of(&api, ListParams::default().fields(&selector).limit(PAGE)).await {
        Ok(last) => last.and_then(text),
        Err(error) => {
            tracing::debug!(%service, %error, "no look at the Service's Events");
            None
        }
    }
}

/// The last of the Events; others may have made many.
async fn last_of(api: &Api<Event>, mut params: ListParams) -> kube::Result<Option<Event>> {
    let mut last = None;
    loop {
        let page = api.list(&params).await?;
        last = page.items.into_iter().chain(last).max_by_key(when);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(last),
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
