//! The UDP flow table against a plain model of it, under arbitrary steps.
#![no_main]

#[path = "../../crates/proxy-core/tests/flow_model/mod.rs"]
mod flow_model;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&capacity, steps)) = bytes.split_first() else { return };
    flow_model::compare(usize::from(capacity % 8) + 1, flow_model::Step::decode(steps));
});
