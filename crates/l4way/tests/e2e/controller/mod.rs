//! `l4way controller` against an API server that is a model of one, under any sequence of changes: what should be
//! is there in the end, whatever happened on the way, and what is somebody else's is as he left it.
//!
//! `L4WAY_MODEL_CASES` says how many sequences there are. `make nightly` has many.

mod api_server;
mod expected;
mod store;
mod world;

use std::env;

use proptest::{collection::vec, prelude::*, sample::select};

use self::world::{Disguise, Fault, Gateway, KINDS, Step, World};

/// How many sequences are tried unless `L4WAY_MODEL_CASES` says otherwise.
const CASES: u32 = 20;

/// The Gateway that most of what happens is about: what happens to one after the other finds more than what
/// happens to each of many.
const USUAL: Gateway = Gateway { namespace: world::NAMESPACES[0], name: "a" };

fn disguise() -> impl Strategy<Value = Disguise> {
    select(&[Disguise::None, Disguise::Labels, Disguise::Name, Disguise::Both][..])
}

fn gateway() -> impl Strategy<Value = Gateway> {
    let (namespace, name) = (select(&world::NAMESPACES[..]), select(&["a", "b"][..]));
    let any = (namespace, name).prop_map(|(namespace, name)| Gateway { namespace, name });
    prop_oneof![2 => Just(USUAL), 1 => any]
}

/// A stranger's object that is there before the usual Gateway, perhaps with a name that this would take.
fn early() -> impl Strategy<Value = Step> {
    (select(&KINDS[..]), disguise())
        .prop_map(|(kind, disguise)| Step::Stranger(kind, USUAL, disguise))
}

fn step() -> impl Strategy<Value = Step> {
    let class = || select(&world::CLASSES[..]);
    let fault = select(&[Fault::Cut, Fault::Expired, Fault::Conflict, Fault::Server][..]);
    let stranger = (select(&KINDS[..]), gateway(), disguise());
    prop_oneof![
        4 => (gateway(), class()).prop_map(|(gateway, class)| Step::MakeGateway(gateway, class)),
        2 => gateway().prop_map(Step::DeleteGateway),
        2 => gateway().prop_map(Step::RemakeGateway),
        2 => (gateway(), class()).prop_map(|(gateway, class)| Step::ChangeClass(gateway, class)),
        2 => (gateway(), 1_u16..9).prop_map(|(gateway, port)| Step::ChangePort(gateway, port)),
        2 => (gateway(), any::<bool>()).prop_map(|(gateway, on)| Step::Relabel(gateway, on)),
        3 => class().prop_map(Step::MakeClass),
        1 => class().prop_map(Step::DeleteClass),
        1 => class().prop_map(Step::GiveClassAway),
        3 => gateway().prop_map(Step::MakeRoute),
        2 => gateway().prop_map(Step::DeleteRoute),
        2 => any::<prop::sample::Index>().prop_map(Step::DeleteMade),
        2 => any::<prop::sample::Index>().prop_map(Step::SpoilMade),
        3 => stranger.prop_map(|(kind, gateway, disguise)| Step::Stranger(kind, gateway, disguise)),
        1 => Just(Step::DeleteStrangers),
        2 => Just(Step::Kubernetes),
        2 => Just(Step::Settle),
        3 => fault.prop_map(Step::Fault),
        1 => Just(Step::Restart),
    ]
}

#[test]
fn whatever_happened_what_should_be_is_there_in_the_end() {
    let cases = env::var("L4WAY_MODEL_CASES").ok();
    let cases = cases.map_or(CASES, |cases| cases.parse().expect("a number of cases"));
    // A case that fails has waited for long.
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(early in vec(early(), 0..3), steps in vec(step(), 4..24))| {
        let mut world = World::new();
        let usual = [Step::MakeGateway(USUAL, world::CLASSES[0]), Step::MakeRoute(USUAL), Step::Settle];
        for step in early.into_iter().chain(usual).chain(steps) {
            world.take(step);
        }
        world.settle();
        world.assert_quiet();
    });
}
