//! What manifests are read as, and what is accepted.

use l4way_resources::{
    AnyObject, Channel, Content, Manifest, ReadOptions, ReadResult, Severity, SourceText,
    api::RouteKind, read,
};
use proptest::prelude::*;

fn read_with(text: &str, channel: Channel) -> ReadResult {
    read(&SourceText::new("test.yaml", text), ReadOptions { channel })
}

fn read_one(text: &str) -> Manifest {
    let mut result = read_with(text, Channel::Any);
    assert!(result.is_valid() && result.manifests.len() == 1, "{:?}", result.diagnostics);
    result.manifests.remove(0)
}

fn severities(result: &ReadResult) -> Vec<Severity> {
    result.diagnostics.iter().map(|diagnostic| diagnostic.severity).collect()
}

const ROUTE: &str = "
kind: TCPRoute
metadata:
  name: route
spec:
  parentRefs:
  - name: gateway
    sectionName: tcp
  rules:
  - backendRefs:
    - name: echo
      port: 9000
";

#[test]
fn objects_get_the_defaults_of_an_api_server() {
    let manifest = read_one(&format!("apiVersion: gateway.networking.k8s.io/v1{ROUTE}"));
    assert_eq!(manifest.reference().to_string(), "TCPRoute default/route");
    assert_eq!(manifest.object.metadata().generation, 1);
    let l4way_resources::AnyObject::Route(RouteKind::Tcp, route) = &manifest.object else {
        panic!("it is a TCPRoute");
    };
    let parent = &route.spec.parent_refs[0];
    assert_eq!(
        (parent.kind.as_ref(), parent.group.as_ref()),
        ("Gateway", "gateway.networking.k8s.io")
    );
    assert_eq!(route.spec.rules[0].backend_refs[0].weight, 1);
}

#[test]
fn fields_are_found_by_pointer() {
    let manifest = read_one(&format!("apiVersion: gateway.networking.k8s.io/v1{ROUTE}"));
    let at = |pointer| manifest.place_at(pointer).to_string();
    assert_eq!(at("/spec/parentRefs/0/sectionName"), "test.yaml:8:18");
    assert_eq!(at("/spec/parentRefs/0/port"), "test.yaml:7:5");
    let said = manifest.diagnostic(Severity::Error, "/spec/parentRefs/0/sectionName", "no such");
    assert_eq!(said.field.as_deref(), Some("spec.parentRefs[0].sectionName"));
    assert_eq!(said.to_string(), "test.yaml:8:18: no such");
}

#[test]
fn what_is_applied_as_status_is_ignored() {
    read_one(&format!("apiVersion: gateway.networking.k8s.io/v1{ROUTE}status: {{parents: 7}}\n"));
}

#[test]
fn times_are_kept_in_utc() {
    let manifest = read_one(
        "{apiVersion: v1, kind: Namespace, metadata: {name: a, creationTimestamp: 2026-01-01T00:00:00+02:00}}",
    );
    let created = manifest.object.metadata().creation_timestamp.clone();
    assert_eq!(created.as_deref(), Some("2025-12-31T22:00:00Z"));
}

#[test]
fn lists_are_read_as_their_items() {
    let list = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: a}}
";
    let result = read_with(list, Channel::Any);
    let found: Vec<_> = result.manifests.iter().map(|it| it.reference().to_string()).collect();
    assert_eq!(found, ["Namespace a", "ConfigMap a/b"]);
    assert!(result.diagnostics.is_empty());
    assert_eq!(result.manifests[1].place_at("/metadata/name").to_string(), "test.yaml:6:54");
}

#[test]
fn the_channel_decides_which_versions_and_fields_there_are() {
    let alpha = format!("apiVersion: gateway.networking.k8s.io/v1alpha2{ROUTE}");
    assert_eq!(severities(&read_with(&alpha, Channel::Any)), [Severity::Warning]);
    assert_eq!(severities(&read_with(&alpha, Channel::Standard)), [Severity::Error]);
    assert_eq!(severities(&read_with(&alpha, Channel::Experimental)), [Severity::Warning]);

    let field =
        format!("apiVersion: gateway.networking.k8s.io/v1{ROUTE}  useDefaultGateways: All\n");
    assert_eq!(severities(&read_with(&field, Channel::Any)), [Severity::Warning]);
    assert_eq!(severities(&read_with(&field, Channel::Standard)), [Severity::Error]);
    assert_eq!(severities(&read_with(&field, Channel::Experimental)), []);

    let both = field.replace("sectionName", "sectioName");
    assert_eq!(severities(&read_with(&both, Channel::Any)), [Severity::Error]);
}

#[test]
fn kinds_that_are_not_read_are_told_once() {
    let pods = "{apiVersion: v1, kind: Pod, metadata: {name: a}}\n---\n".repeat(3);
    let result = read_with(&pods, Channel::Any);
    assert!(result.is_valid() && result.manifests.is_empty());
    let notes: Vec<_> = result.passed_over.diagnostics().map(|note| note.message).collect();
    assert_eq!(notes, ["Pod (v1) is not a kind that l4way reads: 3 objects passed over"]);
}

#[test]
fn a_grpc_route_is_checked_and_passed_over() {
    let route = |port| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {{name: a}}, \
             spec: {{rules: [{{backendRefs: [{{name: b, port: {port}}}]}}]}}}}"
        )
    };
    let result = read_with(&route(9000), Channel::Any);
    assert!(result.is_valid() && result.manifests.is_empty());
    assert_eq!(result.passed_over.diagnostics().count(), 1);
    assert!(!read_with(&route(0), Channel::Any).is_valid());
}

#[test]
fn built_in_kinds_are_checked_as_far_as_they_are_read() {
    let valid = [
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, targetPort: http}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: None}}",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: ExternalName, externalName: b.c}}",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{name: t, port: 53}, {name: u, port: 53, protocol: UDP}]}}",
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]}",
        "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {key: YQ==}}",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b, c: d}}, spec: {containers: [{name: a, image: b, resources: {}}], nodeSelector: {}}}}}",
    ];
    for text in valid {
        read_one(text);
    }
    let invalid = [
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, targetPort: 70000}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, targetPort: a-very-long-port-name}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 53}, {port: 53, protocol: UDP}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80, targtPort: 8080}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {}}",
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv6, endpoints: [{addresses: [10.0.0.1]}]}",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a}]}}}}",
    ];
    for text in invalid {
        assert!(!read_with(text, Channel::Any).is_valid(), "accepted: {text}");
    }
}

#[test]
fn diagnostics_are_written_flat() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: 80\n";
    let result = read_with(text, Channel::Any);
    let expected = serde_json::json!([{
        "severity": "error",
        "message": "spec.ports: must be a list, not 80",
        "object": {"kind": "Service", "namespace": "default", "name": "a"},
        "field": "spec.ports",
        "file": "test.yaml",
        "line": 5,
        "column": 10,
        "snippet": "  ports: 80",
        "width": 2,
        "help": "start each item with `- `",
    }]);
    assert_eq!(serde_json::to_value(&result.diagnostics).unwrap(), expected);
    let shown = l4way_resources::Renderer::coloured().render(&result.diagnostics[0]);
    assert!(shown.contains("\u{1b}["));
}

#[test]
fn secrets_are_never_shown() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: A}\nstringData: {a: hunter2, b: [hunter2]}\n";
    let broken = "apiVersion: v1\nkind: Secret\nstringData:\n  a: hunter2\n  b: hunter2: x\n";
    for text in [text, broken] {
        let result = read_with(text, Channel::Any);
        assert!(!result.is_valid());
        for said in &result.diagnostics {
            let json = serde_json::to_string(said).unwrap();
            let shown = l4way_resources::Renderer::plain().render(said);
            assert!(!format!("{json}{shown}{said}{said:?}").contains("hunter2"), "{shown}");
        }
    }
}

#[test]
fn a_list_of_one_kind_says_what_its_items_are() {
    let list = r#"{"kind": "ServiceList", "apiVersion": "v1", "metadata": {},
 "items": [{"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}}]}"#;
    let manifest = read_one(list);
    assert_eq!(manifest.reference().to_string(), "Service default/db");
    assert_eq!(manifest.place_at("/metadata/name").to_string(), "test.yaml:2:34");
    let broken = list.replace("5432", "0");
    let result = read_with(&broken, Channel::Any);
    assert_eq!(result.diagnostics.len(), 1);
    assert_eq!(result.diagnostics[0].field.as_deref(), Some("spec.ports[0].port"));
}

#[test]
fn kinds_of_others_are_passed_over_whatever_they_are_called() {
    for (kind, version) in [
        ("Service", "serving.knative.dev/v1"),
        ("Secret", "secretsmanager.aws.upbound.io/v1beta1"),
        ("Namespace", "servicebus.azure.com/v1api20211101"),
        ("ManagedPrefixList", "ec2.aws.upbound.io/v1beta1"),
    ] {
        let text =
            format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, spec: {{}}}}");
        let result = read_with(&text, Channel::Any);
        assert!(result.is_valid() && result.refused.is_empty(), "{kind}");
        let notes: Vec<_> = result.passed_over.diagnostics().map(|note| note.message).collect();
        assert!(notes[0].starts_with(&format!("{kind} ({version})")), "{notes:?}");
    }
    for version in ["core/v1", "v2"] {
        let text = format!("{{apiVersion: {version}, kind: Service, metadata: {{name: x}}}}");
        assert!(!read_with(&text, Channel::Any).is_valid(), "{version}");
    }
}

#[test]
fn a_cluster_wide_object_is_in_no_namespace() {
    let class = "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: c, namespace: turn}, spec: {controllerName: l4way.dev/gateway-controller}}";
    assert_eq!(read_one(class).reference().to_string(), "GatewayClass c");
}

#[test]
fn integers_may_be_written_as_floats() {
    let port = |port: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: {port}}}]}}}}"
        )
    };
    for written in ["8e+03", "8000.0", "8000"] {
        assert!(matches!(
            read_one(&port(written)).object,
            AnyObject::Service(service) if service.spec.ports[0].port == 8000
        ));
    }
    assert!(!read_with(&port("80.5"), Channel::Any).is_valid());
}

#[test]
fn values_of_json_may_follow_each_other() {
    let map = |name: &str| {
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#)
    };
    let result = read_with(&format!("{}\n{} {}", map("a"), map("b"), map("c")), Channel::Any);
    assert_eq!((result.manifests.len(), result.diagnostics.len()), (3, 0));
    let places: Vec<_> = result.manifests.iter().map(|it| it.place().to_string()).collect();
    assert_eq!(places[..2], ["test.yaml:1:1", "test.yaml:2:1"]);
}

/// Kind, namespace and name of what is refused, and whether its words are all that is known.
fn refused(text: &str) -> Vec<(String, Option<String>, Option<String>, bool)> {
    let text_of = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    let result = read_with(text, Channel::Any);
    assert!(result.manifests.is_empty() && !result.is_valid(), "{text}");
    let told = result.refused.iter().map(|it| {
        let unparsed = !matches!(it.content, Content::Fields(_));
        (it.kind.to_string(), text_of(&it.namespace), text_of(&it.name), unparsed)
    });
    told.collect()
}

#[test]
fn what_cannot_be_used_is_told_as_far_as_it_can_be_read() {
    let own = |kind: &str, namespace: Option<&str>, name: Option<&str>, unparsed| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        vec![(kind.to_owned(), owned(namespace), owned(name), unparsed)]
    };
    let policy = "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n";
    let known = own("BackendTLSPolicy", Some("default"), Some("p"), false);
    assert_eq!(refused(&format!("{policy}metadata: {{name: p}}\nspec: {{}}\n")), known);
    let misspelt = policy.replace("Policy", "Polcy");
    assert_eq!(refused(&format!("{misspelt}metadata: {{name: p}}\n")), known);
    let old = policy.replace("/v1", "/v1beta9");
    assert_eq!(refused(&format!("{old}metadata: {{name: p}}\n")), known);
    let nameless = own("BackendTLSPolicy", Some("a"), None, false);
    assert_eq!(refused(&format!("{policy}metadata: {{name: 7, namespace: a}}\n")), nameless);
    let nowhere = own("BackendTLSPolicy", None, None, false);
    assert_eq!(refused(policy), nowhere);
    let unparsed = own("BackendTLSPolicy", None, None, true);
    assert_eq!(refused(&format!("{policy}metadata: [\n")), unparsed);
    let fields = "metadata: {name: p}\nspec: {targetRefs: []}\n";
    assert_eq!(refused(fields), known, "its fields tell");
    let class = "metadata: {name: p}\nspec: {controllerName: a/b}\n";
    assert_eq!(refused(class), own("GatewayClass", Some(""), Some("p"), false));
    assert_eq!(refused("services: {web: {image: x}}\n"), [], "this is no manifest");
    let list = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClassList\nitems: none\n";
    assert_eq!(refused(list), own("GatewayClass", Some(""), None, true));
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: p}\ndata: {a: '%'}\n";
    assert_eq!(refused(secret), own("Secret", Some("default"), Some("p"), true));
}

#[test]
fn what_sops_has_encrypted_is_told_once() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: 'ENC[AES256_GCM,data:x]'}\nsops: {mac: x}\n";
    let result = read_with(text, Channel::Any);
    assert_eq!(result.diagnostics.len(), 1);
    let said = result.diagnostics[0].to_string();
    assert!(said.starts_with("test.yaml:5:1: ") && said.contains("sops --decrypt"), "{said}");
}

#[test]
fn policies_of_others_are_told_with_their_targets() {
    let text = "{apiVersion: a.example/v1, kind: Auth, metadata: {name: p, namespace: apps}, spec: {targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}}}";
    let result = read_with(text, Channel::Any);
    assert_eq!(result.foreign_policies.len(), 1);
    assert_eq!(result.foreign_policies[0].object.to_string(), "Auth apps/p");
    assert_eq!(&*result.foreign_policies[0].targets[0].name, "g");
}

proptest! {
    /// Nothing that is read may panic, nor what is said about it.
    #[test]
    fn nothing_panics(words in prop::collection::vec(prop_oneof![
        Just("apiVersion: gateway.networking.k8s.io/v1\n".to_owned()),
        Just("apiVersion: v1\n".to_owned()),
        Just("kind: Gateway\n".to_owned()),
        Just("kind: Service\n".to_owned()),
        Just("kind: List\n".to_owned()),
        Just("metadata:\n".to_owned()),
        Just("  name: a\n".to_owned()),
        Just("spec:\n".to_owned()),
        Just("  listeners:\n".to_owned()),
        Just("  - ".to_owned()),
        Just("name: é\n".to_owned()),
        Just("items:\n- ".to_owned()),
        Just("---\n".to_owned()),
        Just("&a *a <<: ".to_owned()),
        "[-:\\[\\]{}#|>'\"&*!%@`,? \n\t\r0-9a-zé]{0,8}",
        any::<String>(),
    ], 0..24)) {
        let result = read_with(&words.concat(), Channel::Any);
        for said in &result.diagnostics {
            l4way_resources::Renderer::plain().render(said);
        }
    }
}
