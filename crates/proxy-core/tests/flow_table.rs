//! The flow table does what a plain list of flows would.

mod flow_model;

use flow_model::Step;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_flow_table_behaves_like_a_list_in_order_of_idleness(
        capacity in 0..24_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        flow_model::compare(capacity, Step::decode(&bytes));
    }
}
