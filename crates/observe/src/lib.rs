//! What a running l4way says of itself: the [`StatusReport`], which controller and proxies serve and
//! `l4way status` reads, and the tables that people see of it.
//!
//! No I/O and no sessions: those who have them make the rows.
#![forbid(unsafe_code)]

mod endpoint_report;
mod overview;
mod report;
pub mod table;

pub use self::{
    endpoint_report::{EndpointReport, EndpointRow, LastError, LeftOut, UnansweredRow, seconds},
    overview::{GatewayRow, ListenerRow, Overview, PolicyRow, ProxyRow, RouteRow, is_complaint},
    report::{Phase, StatusReport},
};
