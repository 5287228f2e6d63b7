//! Where sessions can go now, as `/status` tells it and `l4way status` prints it: how every endpoint is,
//! as far as there is room, and the routes that lead to nobody.

use std::{fmt::Write, time::Duration};

use serde::{Deserialize, Serialize};

/// How endpoints are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointReport {
    /// Endpoints, those that are passed over before others.
    pub rows: Vec<EndpointRow>,
    /// What there was no room for.
    pub left_out: LeftOut,
    /// Routes with a share of their sessions that nobody answers.
    pub unanswered: Vec<UnansweredRow>,
}

/// One endpoint of a backend, or a backend without any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRow {
    /// `Kind/namespace/name:port`.
    pub backend: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// `ip:port` or `unix:path`; none if the backend has no endpoint.
    pub endpoint: Option<String>,
    /// Whether it is passed over; if not, new sessions take it.
    pub passed_over: bool,
    /// If it is passed over: in how many seconds it is tried again.
    pub tried_again_in_seconds: Option<f64>,
    /// How many sessions it has; unknown if a worker was too busy to say.
    pub sessions: Option<u64>,
    /// The last failure that it was passed over for, of the last hour at least.
    pub last_error: Option<LastError>,
}

/// When and why sessions found nobody at an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// As the metrics spell it.
    pub reason: String,
    /// The time since then.
    pub seconds_ago: f64,
}

/// How many endpoints aren't among the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Endpoints that new sessions take.
    pub taken: usize,
    /// Endpoints that are passed over.
    pub passed_over: usize,
}

/// A route with a backend that has weight and no endpoint that new sessions take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnansweredRow {
    /// `Kind/namespace/name`.
    pub route: String,
    /// `Kind/namespace/name:port`.
    pub backend: String,
    /// How many endpoints the backend has, all of them passed over.
    pub endpoints: usize,
    /// The backend's names, if it has no endpoint because none of them has an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unresolved: Vec<String>,
}

impl EndpointReport {
    /// The table of endpoints, with what isn't in it.
    pub fn table(&self) -> String {
        let mut text = String::new();
        crate::table::write_table(
            &mut text,
            &["BACKEND", "PROTOCOL", "ENDPOINT", "STATE", "SESSIONS", "LAST ERROR"],
            self.rows.iter().map(EndpointRow::cells),
        );
        let LeftOut { taken, passed_over } = self.left_out;
        if taken + passed_over > 0 {
            let _ = writeln!(
                text,
                "{} more endpoints, of which {passed_over} are passed over: --all-endpoints shows them\n",
                taken + passed_over
            );
        }
        text
    }

    /// A line for each route of which sessions find nobody.
    pub fn complaints(&self) -> impl Iterator<Item = String> {
        let told = |row: &UnansweredRow| {
            let UnansweredRow { route, backend, endpoints, unresolved } = row;
            match endpoints {
                0 if !unresolved.is_empty() => format!(
                    "route {route}: {backend} has no endpoint, as no address is known of {}: its sessions \
                 are refused",
                    unresolved.join(", ")
                ),
                0 => format!("route {route}: {backend} has no endpoint: its sessions are refused"),
                1 => format!(
                    "route {route}: nobody answers at the only endpoint of {backend}; sessions still try it"
                ),
                n => format!(
                    "route {route}: nobody answers at any of the {n} endpoints of {backend}; sessions \
                 still try them"
                ),
            }
        };
        self.unanswered.iter().map(told)
    }
}

impl EndpointRow {
    fn cells(&self) -> Vec<String> {
        let none = || "<none>".to_owned();
        let state = match (&self.endpoint, self.passed_over, self.tried_again_in_seconds) {
            (None, ..) => none(),
            (_, false, _) => "taken".to_owned(),
            (_, true, None) => "passed over".to_owned(),
            (_, true, Some(seconds)) if seconds < 0.5 => "passed over, tried again now".to_owned(),
            (_, true, Some(seconds)) => {
                format!("passed over, tried again in {}", rounded(seconds))
            }
        };
        let last_error = self.last_error.as_ref();
        vec![
            self.backend.clone(),
            self.protocol.clone(),
            self.endpoint.clone().unwrap_or_else(none),
            state,
            self.sessions.map_or_else(|| "<unknown>".to_owned(), |sessions| sessions.to_string()),
            last_error.map_or_else(none, |LastError { reason, seconds_ago }| {
                format!("{reason} {} ago", rounded(*seconds_ago))
            }),
        ]
    }
}

/// A time as a person reads it.
fn rounded(seconds: f64) -> String {
    match seconds.round() as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

/// Seconds as the report has them: to the tenth.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_state_sessions_and_the_last_error() {
        let row = |endpoint: Option<&str>| EndpointRow {
            backend: "Service/default/db:5432".to_owned(),
            protocol: "TCP".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            passed_over: false,
            tried_again_in_seconds: None,
            sessions: Some(0),
            last_error: None,
        };
        let refused = LastError { reason: "refused".to_owned(), seconds_ago: 12.4 };
        let report = EndpointReport {
            rows: vec![
                EndpointRow {
                    passed_over: true,
                    tried_again_in_seconds: Some(0.7),
                    last_error: Some(refused),
                    ..row(Some("10.0.0.7:5432"))
                },
                EndpointRow { sessions: None, ..row(Some("10.0.0.8:5432")) },
                EndpointRow { backend: "Backend/default/b".to_owned(), ..row(None) },
            ],
            left_out: LeftOut { taken: 2, passed_over: 1 },
            unanswered: vec![UnansweredRow {
                route: "TCPRoute/default/r".to_owned(),
                backend: "Backend/default/b".to_owned(),
                endpoints: 0,
                unresolved: Vec::new(),
            }],
        };
        let expected = "\
BACKEND                   PROTOCOL   ENDPOINT        STATE                             SESSIONS    LAST ERROR
Service/default/db:5432   TCP        10.0.0.7:5432   passed over, tried again in 1 s   0           refused 12 s ago
Service/default/db:5432   TCP        10.0.0.8:5432   taken                             <unknown>   <none>
Backend/default/b         TCP        <none>          <none>                            0           <none>

3 more endpoints, of which 1 are passed over: --all-endpoints shows them

";
        assert_eq!(report.table(), expected);
        let complaints: Vec<_> = report.complaints().collect();
        assert_eq!(
            complaints,
            [
                "route TCPRoute/default/r: Backend/default/b has no endpoint: its sessions are refused"
            ]
        );
    }

    #[test]
    fn times_are_rounded_as_a_person_would() {
        let read = [0.2, 119.0, 121.0, 7_300.0].map(rounded);
        assert_eq!(read, ["0 s", "119 s", "2 min", "2 h"]);
    }
}
