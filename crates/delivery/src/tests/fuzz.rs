//! Any bytes at all as what is in Secrets and Leases.

use std::fmt::Debug;

use l4way_fuzz::Target;
use serde::{Serialize, de::DeserializeOwned};

use super::*;

/// What can be read is written and read again as the same, packed or not; what can't is refused.
#[test]
fn delivery() {
    Target::new("delivery").seeds("crates/delivery/src/golden").run(|bytes| {
        if let Ok(delivery) = Delivery::from_json(bytes)
            && delivery.logs().is_some()
        {
            same_again(&delivery);
            configuration_again(&delivery);
        }
        if let Ok(keys) = KeyPairs::from_json(bytes) {
            same_again(&keys);
        }
        answer_again::<Acknowledgement>(bytes);
        answer_again::<Identity>(bytes);
        answer_again::<EndpointSummary>(bytes);
        assert!(unpack::<Delivery>(bytes, "").is_err(), "it isn't what the index names");
        let _ = unpack::<Delivery>(bytes, &hash(bytes));
    });
}

fn same_again<D: Document + Debug + PartialEq>(document: &D) {
    let json = document.to_json();
    assert_eq!(D::from_json(&json).as_ref(), Ok(document));
    let packed = pack(document).expect("an input is short");
    assert_eq!(unpack::<D>(&super::whole(&packed), &packed.hash).ok().as_ref(), Some(document));
}

/// A configuration that a proxy can run is written as it was read.
fn configuration_again(delivery: &Delivery) {
    let Ok(keys) = KeyPairs::from_json(include_bytes!("../golden/0.1.0/keys.json")) else {
        panic!("the golden key pairs can be read")
    };
    let Ok(config) = delivery.config(&keys, SessionTerms::default()) else { return };
    let logs = delivery.logs().cloned().unwrap_or_default();
    let (backends, requires) = (delivery.backends(), BTreeSet::new());
    let contents =
        Contents { config: &config, backends: &backends, logs: &logs, requires: &requires };
    let (written, pairs) = Delivery::new(contents);
    let read = Delivery::from_json(&written.to_json()).expect("what was written can be read");
    assert_eq!(read.config(&pairs, SessionTerms::default()), Ok(config));
    assert_eq!((read.backends(), read.logs()), (backends, Some(&logs)));
}

fn answer_again<T: Debug + PartialEq + Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&answer).expect("an answer can be written");
        assert_eq!(serde_json::from_slice::<T>(&written).ok(), Some(answer));
    }
}
