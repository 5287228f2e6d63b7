//! The form in which releases write, and what they read of each other.
//!
//! `golden/RELEASE` has what that release writes of [`everything`]; it is never changed again. A later
//! release reads it as what it meant, and writes the same bytes of what uses nothing new.
//! `L4WAY_GOLDEN=refresh` writes files that aren't there, and no others.

mod everything;
mod fuzz;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
};

use l4way_model::{
    ApplyReport, AtLimit, BindFailure, BindFailureKind, Config, HttpTerms, ListenerReport,
    PathReport, SessionTerms, TlsOptions, TlsVersion,
};
use serde_json::{Value, json};

use super::*;

/// What is there of releases before this one, the oldest first.
const UNVERSIONED: &str = "d539330";
/// The release whose form is written.
const CURRENT: &str = "0.1.0";

fn golden(release: &str, name: &str) -> PathBuf {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/golden");
    PathBuf::from(directory).join(release).join(format!("{name}.json"))
}

fn read(release: &str, name: &str) -> Value {
    let path = golden(release, name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; L4WAY_GOLDEN=refresh writes it", path.display())
    });
    serde_json::from_str(&text).unwrap()
}

/// Compares with what the release wrote.
#[track_caller]
fn assert_golden(name: &str, written: &Value) {
    let path = golden(CURRENT, name);
    if env::var("L4WAY_GOLDEN").as_deref() == Ok("refresh") && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{written:#}\n")).unwrap();
    }
    assert_eq!(*written, read(CURRENT, name), "{} is what proxies in use read", path.display());
}

fn json_of(document: &impl Document) -> Value {
    serde_json::from_slice(&document.to_json()).unwrap()
}

fn document<D: Document>(value: &Value) -> Result<D, Refusal> {
    D::from_json(value.to_string().as_bytes())
}

fn everything() -> (Delivery, KeyPairs) {
    requiring(BTreeSet::new())
}

fn requiring(requires: BTreeSet<String>) -> (Delivery, KeyPairs) {
    delivering(&everything::config(), &requires)
}

/// This configuration, with all else that there can be.
fn delivering(config: &Config, requires: &BTreeSet<String>) -> (Delivery, KeyPairs) {
    Delivery::new(Contents {
        config,
        backends: &everything::backends(),
        logs: &everything::logs(),
        requires,
    })
}

/// A configuration in which all is at its default.
fn nothing() -> Delivery {
    let contents = Contents {
        config: &Config::default(),
        backends: &BTreeMap::new(),
        logs: &Logs::default(),
        requires: &BTreeSet::new(),
    };
    Delivery::new(contents).0
}

fn report() -> ApplyReport {
    let config = everything::config();
    let failure = BindFailure {
        bind: "0.0.0.0:80".parse().unwrap(),
        kind: BindFailureKind::PortTaken,
        message: "taken".to_owned(),
    };
    let ids = config.listener_ids().cloned().enumerate();
    let listeners = ids.map(|(number, id)| match number {
        1 => (id, ListenerReport::Failed(failure.clone())),
        _ => (id, ListenerReport::Bound),
    });
    let paths = [PathReport::Kernel, PathReport::Proxy("why".to_owned())];
    let refused = everything::backends().into_keys().next().unwrap();
    ApplyReport {
        listeners: listeners.collect(),
        refused_backends: [(refused, "left out".to_owned())].into(),
        paths: config.listener_ids().cloned().zip(paths).collect(),
    }
}

fn identity() -> Identity {
    let refusal = Refusal {
        features: ["invented".to_owned()].into(),
        message: "it lacks the feature \"invented\"".to_owned(),
    };
    let refused = Refused { hash: "def".to_owned(), refusal };
    Identity {
        version: "0.1.0".to_owned(),
        features: ["other".to_owned()].into(),
        refused: [(DocumentKind::Config, refused)].into(),
    }
}

#[test]
fn what_is_written_is_what_the_release_wrote() {
    let (config, keys) = everything();
    assert_golden("config", &json_of(&config));
    assert_golden("keys", &json_of(&keys));
    assert_golden("nothing", &json_of(&nothing()));
    let said = Acknowledgement::new("abc", Some("k".to_owned()), &report());
    assert_golden("acknowledgement", &serde_json::to_value(said).unwrap());
    assert_golden("identity", &serde_json::to_value(identity()).unwrap());
}

#[test]
fn what_a_release_wrote_is_read_as_it_was_meant() {
    for release in [UNVERSIONED, CURRENT] {
        let delivery: Delivery = document(&read(release, "config")).unwrap();
        // Of the first, key pairs are in the configuration itself.
        let keys = match release {
            UNVERSIONED => KeyPairs::default(),
            _ => document(&read(release, "keys")).unwrap(),
        };
        assert_eq!(
            delivery.config(&keys, everything::terms()).unwrap(),
            everything::config(),
            "{release}"
        );
        assert_eq!(delivery.backends(), everything::backends(), "{release}");
        let logs = (release != UNVERSIONED).then(everything::logs);
        assert_eq!(delivery.logs(), logs.as_ref(), "{release}");
        let said: Acknowledgement =
            serde_json::from_value(read(release, "acknowledgement")).unwrap();
        let config = everything::config();
        assert_eq!(said.report(config.listener_ids()), report(), "{release}");
    }
    let read: Identity = serde_json::from_value(read(CURRENT, "identity")).unwrap();
    assert_eq!(read, identity());
}

#[test]
fn by_its_uid_all_proxies_of_a_gateway_know_requests_that_come_back() {
    let config = everything::config().with_gateway_uid(Some("u-1".into()));
    let (written, keys) = delivering(&config, &BTreeSet::new());
    let read: Delivery = document(&json_of(&written)).unwrap();
    assert_eq!(read.config(&keys, everything::terms()).unwrap(), config);
}

#[test]
fn proxies_have_to_know_whom_to_trust() {
    let trusted = ["192.0.2.0/24", "2001:db8::/32"].map(|network| network.parse().unwrap());
    let http_terms = HttpTerms { trusted_proxies: trusted.into_iter().collect() };
    let config = everything::config().with_http_terms(http_terms);
    let (written, keys) = delivering(&config, &BTreeSet::new());
    let json = json_of(&written);
    assert_eq!(json["requires"], json!(["http-trusted-proxies"]));
    let read: Delivery = document(&json).unwrap();
    assert_eq!(read.config(&keys, everything::terms()).unwrap(), config);
    assert!(json_of(&everything().0).get("requires").is_none(), "nobody is trusted by default");
}

/// What those before there were versions need of a configuration, and of an answer.
#[test]
fn who_knows_no_versions_takes_no_configuration_and_every_answer() {
    let written = json_of(&everything().0);
    assert!(written.get("config").is_none(), "they would confirm it");
    let said = Acknowledgement::new("abc", Some("k".to_owned()), &report());
    let said = serde_json::to_value(said).unwrap();
    let before = read(UNVERSIONED, "acknowledgement");
    for field in before.as_object().unwrap().keys() {
        assert!(!said[field].is_null(), "{field}");
    }
}

#[test]
fn what_is_missing_is_at_its_default() {
    let id = json!({"gateway": {"namespace": "team", "name": "gw"}, "name": "tls"});
    let route = json!({
        "id": {"kind": "TLSRoute", "namespace": "team", "name": "route"},
        "targets": [{"target": {"refused": "invalid_backend"}}],
    });
    let value = json!({
        "version": 1,
        "tls": [{"addresses": ["0.0.0.0"], "port": 443, "listeners": [{
            "id": id,
            "mode": {"terminate": {
                "tls": {"certificates": ["team/cert"]},
                "routes": [{"route": route}],
            }},
        }]}],
        "listeners": [{"id": id, "transport": "TCP", "addresses": ["0.0.0.0"], "port": 1}],
    });
    let mut keys = KeyPairs::default();
    keys.insert(everything::pair("team/cert"));
    let config = document::<Delivery>(&value).unwrap().config(&keys, everything::terms()).unwrap();
    let listener = &config.tls_ports()[0].listeners[0];
    assert_eq!((listener.hostname.as_ref(), listener.handshake_timeout.as_secs()), (None, 10));
    assert_eq!(listener.mode.routes()[0].route.targets[0].weight, 1);
    let options = &listener.mode.tls().unwrap().options;
    let defaults = TlsOptions {
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        cipher_suites: Vec::new(),
        alpn: Vec::new(),
        resumption: true,
    };
    assert_eq!(*options, defaults);
    assert_eq!(config.listeners().next().unwrap().route, None);
    let terms = config.terms();
    assert_eq!((terms.connect_timeout.as_secs(), terms.udp_session_timeout.as_secs()), (5, 60));
    let logs = Logs { level: "info".into(), format: "json".into(), access_log: false };
    assert_eq!(document::<Delivery>(&value).unwrap().logs(), Some(&logs));
}

#[test]
fn an_unknown_field_is_passed_over_and_an_unknown_value_is_not() {
    let mut value = json_of(&everything().0);
    value["later"] = json!({"a": 1});
    value["listeners"][0]["later"] = true.into();
    value["listeners"][0]["route"]["targets"][0]["later"] = true.into();
    assert_eq!(document::<Delivery>(&value).unwrap(), everything().0);
    value["listeners"][0]["route"]["targets"][0]["target"] = json!({"mirror": {}});
    let refusal = document::<Delivery>(&value).unwrap_err();
    assert!(refusal.message.contains("mirror"), "{refusal}");
}

#[test]
fn a_required_feature_and_a_later_version_are_refused() {
    let (delivery, _) = requiring(["b".to_owned(), "a".to_owned()].into());
    let refusal = document::<Delivery>(&json_of(&delivery)).unwrap_err();
    assert_eq!(refusal.message, "it lacks the features \"a\", \"b\"");
    assert_eq!(refusal.features, ["a".to_owned(), "b".to_owned()].into());

    let refused = |value: Value| document::<Delivery>(&value).unwrap_err().message;
    // What is beyond the version may be of any form.
    let later = json!({"version": 2, "requires": ["a"], "listeners": "elsewhere"});
    assert_eq!(refused(later), "it can't read a document of version 2");
    assert_eq!(refused(json!({"version": 0})), "it can't read a document of version 0");
    let keys = document::<KeyPairs>(&json!({"version": 7, "pairs": []})).unwrap_err();
    assert_eq!(keys.message, "it can't read a document of version 7");
}

#[test]
fn no_key_is_in_a_configuration_or_in_what_is_said_of_key_pairs() {
    let (delivery, keys) = everything();
    let text = json_of(&delivery).to_string();
    assert!(text.contains("team/a") && !text.contains("key of"), "{text}");
    assert!(!format!("{delivery:?} {keys:?}").contains("key of"));
    let wrong = json!({"version": 1, "pairs": "key of team/a"});
    let refusal = document::<KeyPairs>(&wrong).unwrap_err();
    assert!(!format!("{refusal:?}").contains("key of"), "{refusal:?}");
}

#[test]
fn an_identity_of_a_later_release_can_be_read() {
    let later = json!({
        "version": "9.9.9",
        "features": ["x"],
        "later": true,
        "refused": {"config": {"hash": "abc", "message": "it is too late", "later": 1}},
    });
    let identity: Identity = serde_json::from_value(later).unwrap();
    assert_eq!(identity.refused[&DocumentKind::Config].refusal.message, "it is too late");
}

#[test]
fn a_missing_key_pair_is_named() {
    let (delivery, _) = everything();
    let error = delivery.config(&KeyPairs::default(), everything::terms()).unwrap_err();
    let ConfigError::MissingKeyPair(missing) = error else { panic!("{error:?}") };
    assert_eq!(missing.to_string(), "the key pair of Secret team/a has not arrived");
}

fn whole(packed: &Packed) -> Vec<u8> {
    packed.parts.iter().map(|part| &**part).collect::<Vec<_>>().concat()
}

#[test]
fn what_is_packed_is_unpacked() {
    let (delivery, _) = everything();
    let packed = pack(&delivery).unwrap();
    assert_eq!(packed, pack(&delivery).unwrap());
    assert_eq!(unpack::<Delivery>(&whole(&packed), &packed.hash).unwrap(), delivery);
}

#[test]
fn half_of_a_document_is_refused() {
    let packed = pack(&everything().0).unwrap();
    let all = whole(&packed);
    let error = unpack::<Delivery>(&all[..all.len() - 1], &packed.hash).unwrap_err();
    assert!(matches!(error, UnpackError::Hash { .. }), "{error}");
    let garbage = b"garbage";
    let error = unpack::<Delivery>(garbage, &hash(garbage)).unwrap_err();
    assert!(matches!(error, UnpackError::Compression(_)), "{error}");
}

#[test]
fn what_is_to_be_done_at_the_limit_is_read_as_it_was_written() {
    for at_limit in [AtLimit::Wait, AtLimit::Evict] {
        let terms = SessionTerms { at_limit, ..SessionTerms::default() };
        let contents = Contents {
            config: &Config::default().with_terms(terms),
            backends: &BTreeMap::new(),
            logs: &Logs::default(),
            requires: &BTreeSet::new(),
        };
        let (delivery, keys) = Delivery::new(contents);
        let delivery: Delivery = document(&json_of(&delivery)).unwrap();
        let config = delivery.config(&keys, SessionTerms::default()).unwrap();
        assert_eq!(config.terms(), terms);
    }
}
