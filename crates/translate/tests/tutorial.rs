//! The tutorial's manifests, with the messages that the tutorial shows.

use std::{fs, path::Path};

use l4way_model::ApplyReport;
use l4way_resources::{
    ReadOptions, Snapshot, SourceText, read,
    status::{Condition, Status},
};
use l4way_translate::{Observed, Settings, compile, graph, status};

fn tutorial() -> Snapshot {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tutorial");
    let files = fs::read_dir(directory).expect("the tutorial is there");
    let objects = files.flat_map(|file| {
        let path = file.expect("the directory can be read").path();
        let text = fs::read_to_string(&path).expect("the file can be read");
        let result =
            read(&SourceText::new(path.display().to_string(), text), ReadOptions::default());
        assert!(result.is_valid(), "{:#?}", result.diagnostics);
        result.manifests.into_iter().map(|manifest| manifest.object)
    });
    objects.collect()
}

#[test]
fn the_tutorial_routes_are_accepted() {
    let graph = graph(&tutorial(), &Settings::default());
    assert!(graph.claims_every_gateway());
    let statuses = status(&graph, &ApplyReport::default(), &Observed::default());
    let routes: Vec<_> = statuses
        .iter()
        .filter_map(|update| match &update.status {
            Status::Route(route) => Some((update.object.to_string(), route)),
            _ => None,
        })
        .collect();
    let names: Vec<_> = routes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["TCPRoute default/tcp-echo-route", "UDPRoute default/udp-echo-route"]);
    for (_, route) in routes {
        let [parent] = &route.parents[..] else { panic!("one parent: {route:?}") };
        let Condition { kind, reason, message, .. } = &parent.conditions[0];
        assert_eq!((kind.as_str(), reason.as_str()), ("Accepted", "Accepted"));
        assert_eq!(message, "Route is accepted by the Gateway.");
    }
}

#[test]
fn the_tutorial_listens_on_its_ports() {
    let compiled = compile(&graph(&tutorial(), &Settings::default()));
    let binds: Vec<_> = compiled
        .config
        .listeners()
        .flat_map(|listener| listener.binds().map(|bind| format!("{bind}/{}", listener.transport)))
        .collect();
    assert_eq!(binds, ["127.0.0.1:9000/TCP", "127.0.0.1:9001/UDP"]);
    assert!(compiled.config.listeners().all(|listener| listener.route.is_some()));
}
