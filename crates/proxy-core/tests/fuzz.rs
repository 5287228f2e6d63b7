//! What clients begin with, and the flow table, under any bytes at all.

mod flow_model;
mod greetings;

use flow_model::Step;
use l4way_fuzz::Target;

/// The UDP flow table does what a plain list of flows would.
#[test]
fn flow_table() {
    Target::new("flow_table").run(|bytes| {
        let Some((&capacity, steps)) = bytes.split_first() else { return };
        flow_model::compare(usize::from(capacity % 8) + 1, Step::decode(steps));
    });
}

/// What TLS clients begin with is read the same however it is cut.
#[test]
fn greeting() {
    Target::new("greeting").seeds("crates/proxy-core/tests/hellos").run(greetings::check);
}
