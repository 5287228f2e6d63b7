//! Tables as kubectl prints them: columns padded by spaces, no rules.

use std::fmt::Write;

use l4way_model::PathReport;
use l4way_resources::status::{Condition, ConditionStatus};

use crate::overview::Overview;

/// How much of a hash is shown: enough to tell two apart.
const HASH_DIGITS: usize = 12;

/// The tables of Gateways, listeners, routes and policies, and below them what is wrong.
pub fn render(overview: &Overview) -> String {
    let mut text = String::new();
    write_table(
        &mut text,
        &["GATEWAY", "CLASS", "ADDRESS", "ACCEPTED", "PROGRAMMED"],
        overview.gateways.iter().map(|row| {
            vec![
                row.name.clone(),
                row.class.clone(),
                or_none(row.addresses.join(",")),
                verdict(&row.conditions, "Accepted"),
                verdict(&row.conditions, "Programmed"),
            ]
        }),
    );
    write_table(
        &mut text,
        &["LISTENER", "PROTOCOL", "PORT", "ROUTES", "ACCEPTED", "RESOLVEDREFS", "PROGRAMMED"],
        overview.listeners.iter().map(|row| {
            vec![
                row.name.clone(),
                row.protocol.clone(),
                row.port.to_string(),
                row.attached_routes.to_string(),
                verdict(&row.conditions, "Accepted"),
                verdict(&row.conditions, "ResolvedRefs"),
                verdict(&row.conditions, "Programmed"),
            ]
        }),
    );
    write_table(
        &mut text,
        &["LISTENER", "DATAPATH", "WHY"],
        overview.listeners.iter().filter_map(|row| {
            let (path, why) = match row.data_path.as_ref()? {
                PathReport::Kernel => ("kernel", ""),
                PathReport::Proxy(why) => ("proxy", &**why),
            };
            Some(vec![row.name.clone(), path.to_owned(), why.to_owned()])
        }),
    );
    write_table(
        &mut text,
        &["ROUTE", "PARENT", "ACCEPTED", "RESOLVEDREFS"],
        overview.routes.iter().map(|row| {
            vec![
                row.name.clone(),
                row.parent.clone(),
                verdict(&row.conditions, "Accepted"),
                verdict(&row.conditions, "ResolvedRefs"),
            ]
        }),
    );
    write_table(
        &mut text,
        &["POLICY", "GATEWAY", "ACCEPTED", "RESOLVEDREFS"],
        overview.policies.iter().map(|row| {
            vec![
                row.name.clone(),
                row.gateway.clone(),
                verdict(&row.conditions, "Accepted"),
                verdict(&row.conditions, "ResolvedRefs"),
            ]
        }),
    );
    write_table(
        &mut text,
        &["PROXY", "GATEWAY", "READY", "VERSION", "CONFIGURATION"],
        overview.proxies.iter().map(|row| {
            let hash = row.configuration.as_deref().unwrap_or_default();
            let short = or_none(hash.chars().take(HASH_DIGITS).collect());
            vec![
                row.name.clone(),
                row.gateway.clone(),
                if row.ready { "True" } else { "False" }.to_owned(),
                or_none(row.version.clone().unwrap_or_default()),
                if row.behind.is_some() { format!("{short} (behind)") } else { short },
            ]
        }),
    );
    write_table(
        &mut text,
        &["BACKEND", "PROXY", "ENDPOINTS", "PASSED OVER", "WHY"],
        overview.proxies.iter().flat_map(|row| {
            row.endpoints.backends.iter().map(|of| {
                vec![
                    of.backend.to_string(),
                    row.name.clone(),
                    of.endpoints.to_string(),
                    of.passed_over.to_string(),
                    of.reason.clone(),
                ]
            })
        }),
    );
    for complaint in overview.complaints() {
        let _ = writeln!(text, "! {complaint}");
    }
    text
}

/// A condition in a cell: its status, with the reason where it isn't plainly true.
fn verdict(conditions: &[Condition], kind: &str) -> String {
    match conditions.iter().find(|condition| condition.kind == kind) {
        None => "<none>".to_owned(),
        Some(condition)
            if condition.status == ConditionStatus::True && condition.reason == kind =>
        {
            "True".to_owned()
        }
        Some(condition) => format!("{} ({})", condition.status.as_str(), condition.reason),
    }
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// Writes a table and an empty line, or nothing if it has no rows.
pub(crate) fn write_table<const N: usize>(
    text: &mut String,
    header: &[&str; N],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let mut lines = vec![header.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>()];
    lines.extend(rows);
    if lines.len() == 1 {
        return;
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    for line in &lines {
        let padded: Vec<_> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", padded.join("   ").trim_end());
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::{GatewayRow, ListenerRow};

    fn condition(kind: &str, status: ConditionStatus, reason: &str) -> Condition {
        Condition {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: "port 9000 is taken by nginx".to_owned(),
            observed_generation: 1,
        }
    }

    #[test]
    fn tables_are_aligned_and_say_what_is_wrong() {
        let overview = Overview {
            gateways: vec![GatewayRow {
                name: "default/gw".to_owned(),
                class: "l4way".to_owned(),
                addresses: vec!["127.0.0.1".to_owned()],
                conditions: vec![condition("Accepted", ConditionStatus::True, "ListenersNotValid")],
            }],
            listeners: vec![ListenerRow {
                name: "default/gw/tcp".to_owned(),
                protocol: "TCP".to_owned(),
                port: 9000,
                attached_routes: 1,
                data_path: None,
                conditions: vec![
                    condition("Accepted", ConditionStatus::False, "PortUnavailable"),
                    condition("ResolvedRefs", ConditionStatus::True, "ResolvedRefs"),
                ],
            }],
            ..Overview::default()
        };
        let expected = "\
GATEWAY      CLASS   ADDRESS     ACCEPTED                   PROGRAMMED
default/gw   l4way   127.0.0.1   True (ListenersNotValid)   <none>

LISTENER         PROTOCOL   PORT   ROUTES   ACCEPTED                  RESOLVEDREFS   PROGRAMMED
default/gw/tcp   TCP        9000   1        False (PortUnavailable)   True           <none>

! listener default/gw/tcp: Accepted False (PortUnavailable): port 9000 is taken by nginx
";
        assert_eq!(render(&overview), expected);
    }
}
