use crate::{
    GATEWAY_API_VERSION, GATEWAY_GROUP, L4WAY_GROUP,
    path::Path,
    schema::{Channel, Kind, Problem, Version},
    suggest::nearest,
};

/// What an `apiVersion` and `kind` stand for.
pub(super) enum Resolved {
    /// A kind that is read, with the version's schemas to try in turn.
    Known { kind: &'static Kind, schemas: Schemas },
    /// A kind that is passed over.
    Other,
    /// No such kind or version.
    Unknown(Problem),
}

/// The schemas that a version has in the channels that may be used. At least one is there.
#[derive(Clone, Copy)]
pub(super) struct Schemas {
    pub(super) standard: Option<&'static Version>,
    pub(super) experimental: Option<&'static Version>,
}

/// Finds the kind; with no channel given, in both.
pub(super) fn resolve(api_version: &str, kind: &str, channel: Option<Channel>) -> Resolved {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let Some(known) = Kind::all().iter().find(|known| known.name == kind && known.group == group)
    else {
        return misspelt(api_version, group, kind).map_or(Resolved::Other, Resolved::Unknown);
    };
    let served = |wanted: Channel| {
        let allowed = channel.is_none_or(|channel| channel == wanted);
        known.served(wanted, version).filter(|_| allowed)
    };
    let schemas = Schemas {
        standard: served(Channel::Standard),
        experimental: served(Channel::Experimental),
    };
    if schemas.standard.is_none() && schemas.experimental.is_none() {
        return Resolved::Unknown(unknown_version(known, api_version, channel));
    }
    Resolved::Known { kind: known, schemas }
}

/// The kind that these are of, in whatever version.
pub(super) fn known(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    Kind::all().iter().find(|known| known.name == kind && known.group == group)
}

/// The kind that is meant by a name that may be misspelt, or be in the wrong group.
pub(super) fn meant(name: &str) -> Option<&'static Kind> {
    let meant = nearest(name, Kind::all().iter().map(|kind| kind.name))?;
    Kind::all().iter().find(|kind| kind.name == meant)
}

fn unknown_version(kind: &Kind, api_version: &str, channel: Option<Channel>) -> Problem {
    let known: Vec<_> = kind
        .served_names(channel.unwrap_or(Channel::Experimental))
        .map(|version| format!("`{}`", kind.api_version(version)))
        .collect();
    let known = known.join(" and ");
    no_matches(kind.name, api_version, "apiVersion").with_help(match channel {
        _ if kind.group != GATEWAY_GROUP => format!("use {known}"),
        None => format!("Gateway API {GATEWAY_API_VERSION} serves {known}"),
        Some(channel) => {
            format!("the {channel} channel of Gateway API {GATEWAY_API_VERSION} serves {known}")
        }
    })
}

/// A kind or group that is nearly one that is known. Others belong to somebody else.
fn misspelt(api_version: &str, group: &str, kind: &str) -> Option<Problem> {
    let kinds = || Kind::all().iter();
    let ours = [GATEWAY_GROUP, L4WAY_GROUP].contains(&group);
    if ours || kinds().any(|known| known.group == group) {
        let names = kinds().filter(|known| known.group == group).map(|known| known.name);
        if let Some(meant) = nearest(kind, names) {
            let problem = no_matches(kind, api_version, "kind");
            return Some(problem.with_help(format!("did you mean `{meant}`?")));
        }
    }
    if ours {
        return Some(no_matches(kind, api_version, "kind"));
    }
    let known = kinds().find(|known| known.name == kind)?;
    // Other groups may have kinds of the same name: Knative has Services.
    let is_builtin = group == "core" || kinds().any(|known| known.group == group);
    let near = is_builtin || nearest(group, [known.group]).is_some();
    near.then(|| {
        let version = known.served_names(Channel::Standard).next().unwrap_or("v1");
        no_matches(kind, api_version, "apiVersion")
            .with_help(format!("did you mean `{}`?", known.api_version(version)))
    })
}

fn no_matches(kind: &str, api_version: &str, field: &str) -> Problem {
    let message = format!("there is no kind `{kind}` in version `{api_version}`");
    Problem::new(Path::default().field(field), message)
}
