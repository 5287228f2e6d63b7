use std::{
    fmt,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
};

use kube_cel::{CompiledSchema, Validator, compile_schema};
use serde::Deserialize;
use serde_json::Value;

use super::{
    check::{Problem, check},
    explain::explain,
    value::Schema,
};
use crate::{GATEWAY_GROUP, L4WAY_GROUP, path::Path};

/// The version of the Gateway API whose kinds are known.
pub const GATEWAY_API_VERSION: &str = "v1.6.1";

/// The release channels of the Gateway API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Standard,
    Experimental,
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "standard",
            Self::Experimental => "experimental",
        })
    }
}

/// Whether a kind's objects are in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Cluster,
    Namespaced,
}

/// A kind that is validated.
pub(crate) struct Kind {
    /// Empty for Kubernetes' core group.
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    standard: LazyLock<Vec<Version>>,
    experimental: Option<LazyLock<Vec<Version>>>,
}

/// A version of a kind.
#[derive(Deserialize)]
pub(crate) struct Version {
    pub(crate) name: String,
    served: bool,
    #[serde(default)]
    pub(crate) deprecated: bool,
    schema: VersionSchema,
    #[serde(skip)]
    compiled: OnceLock<Compiled>,
}

#[derive(Deserialize)]
struct VersionSchema {
    #[serde(rename = "openAPIV3Schema")]
    source: Value,
}

/// A schema in the form that checks use.
struct Compiled {
    structure: Schema,
    rules: CompiledSchema,
}

const BACKENDS: &str = include_str!("../../crds/l4way.dev_backends.yaml");
const GATEWAY_PARAMETERS: &str = include_str!("../../crds/l4way.dev_gatewayparameters.yaml");

/// The CustomResourceDefinitions of l4way's own kinds, each a YAML document.
pub const DEFINITIONS: [&str; 2] = [BACKENDS, GATEWAY_PARAMETERS];

/// A kind of the Gateway API, from the vendored CRDs of both channels.
macro_rules! gateway_kind {
    ($name:literal, $plural:literal, $scope:ident) => {
        Kind {
            group: GATEWAY_GROUP,
            name: $name,
            scope: Scope::$scope,
            standard: LazyLock::new(|| {
                definition(include_str!(concat!("../../crds/standard/", $plural, ".json")))
            }),
            experimental: Some(LazyLock::new(|| {
                definition(include_str!(concat!("../../crds/experimental/", $plural, ".json")))
            })),
        }
    };
}

/// A kind that Kubernetes has built in, with a schema of what is read of it.
macro_rules! builtin_kind {
    ($group:literal, $name:literal, $file:literal, $scope:ident) => {
        Kind {
            group: $group,
            name: $name,
            scope: Scope::$scope,
            standard: LazyLock::new(|| {
                builtin(include_str!(concat!("../../schemas/", $file, ".yaml")))
            }),
            experimental: None,
        }
    };
}

static KINDS: [Kind; 18] = [
    gateway_kind!("GatewayClass", "gatewayclasses", Cluster),
    gateway_kind!("Gateway", "gateways", Namespaced),
    gateway_kind!("ListenerSet", "listenersets", Namespaced),
    gateway_kind!("TCPRoute", "tcproutes", Namespaced),
    gateway_kind!("UDPRoute", "udproutes", Namespaced),
    gateway_kind!("TLSRoute", "tlsroutes", Namespaced),
    gateway_kind!("HTTPRoute", "httproutes", Namespaced),
    gateway_kind!("GRPCRoute", "grpcroutes", Namespaced),
    gateway_kind!("ReferenceGrant", "referencegrants", Namespaced),
    gateway_kind!("BackendTLSPolicy", "backendtlspolicies", Namespaced),
    Kind {
        group: L4WAY_GROUP,
        name: "Backend",
        scope: Scope::Namespaced,
        standard: LazyLock::new(|| definition(BACKENDS)),
        experimental: None,
    },
    Kind {
        group: L4WAY_GROUP,
        name: "GatewayParameters",
        scope: Scope::Namespaced,
        standard: LazyLock::new(|| definition(GATEWAY_PARAMETERS)),
        experimental: None,
    },
    builtin_kind!("", "Namespace", "namespace", Cluster),
    builtin_kind!("", "Service", "service", Namespaced),
    builtin_kind!("discovery.k8s.io", "EndpointSlice", "endpointslice", Namespaced),
    builtin_kind!("", "Secret", "secret", Namespaced),
    builtin_kind!("", "ConfigMap", "configmap", Namespaced),
    builtin_kind!("apps", "Deployment", "deployment", Namespaced),
];

impl Kind {
    /// Every kind that is validated.
    pub(crate) fn all() -> &'static [Self] {
        &KINDS
    }

    /// The version of this name, if the channel has it and serves it.
    pub(crate) fn served(&self, channel: Channel, name: &str) -> Option<&Version> {
        self.versions(channel).iter().find(|version| version.name == name && version.served)
    }

    /// The versions of this kind that a channel serves.
    pub(crate) fn served_names(&self, channel: Channel) -> impl Iterator<Item = &str> {
        let served = self.versions(channel).iter().filter(|version| version.served);
        served.map(|version| version.name.as_str())
    }

    fn versions(&self, channel: Channel) -> &[Version] {
        match (&self.experimental, channel) {
            (Some(experimental), Channel::Experimental) => experimental,
            _ => &self.standard,
        }
    }

    /// The name and version as `apiVersion` has them.
    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }
}

impl Version {
    /// Checks an object as an API server does, and puts defaults in. CEL rules are looked at only
    /// if the structure is right, since they build on it.
    pub(crate) fn check(&self, object: &mut Value, secret: bool) -> Vec<Problem> {
        let compiled = self.compiled.get_or_init(|| compile(&self.schema.source));
        let problems = check(&compiled.structure, object, secret);
        if problems.is_empty() { rules(&compiled.rules, object) } else { problems }
    }
}

fn rules(rules: &CompiledSchema, object: &Value) -> Vec<Problem> {
    static VALIDATOR: LazyLock<Mutex<Validator>> = LazyLock::new(Mutex::default);
    let validator = VALIDATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let broken = validator.validate_compiled(rules, object, None).err();
    let explained = |error: &kube_cel::ValidationError| {
        explain(object, &Path::parse(&error.field_path), &error.message)
    };
    let mut problems: Vec<Problem> = Vec::new();
    for problem in broken.iter().flat_map(|errors| errors.iter()).flat_map(explained) {
        // Two rules may say the same of one entry.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}

/// The versions that a CustomResourceDefinition has.
fn definition(text: &str) -> Vec<Version> {
    #[derive(Deserialize)]
    struct Definition {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        versions: Vec<Version>,
    }
    let definition: Definition = if text.starts_with('{') {
        serde_json::from_str(text).expect("a vendored CRD is a CRD")
    } else {
        serde_saphyr::from_str(text).expect("our own CRD is a CRD")
    };
    definition.spec.versions
}

/// The only version of a built-in kind.
fn builtin(text: &str) -> Vec<Version> {
    vec![Version {
        name: "v1".to_owned(),
        served: true,
        deprecated: false,
        schema: VersionSchema { source: yaml(text) },
        compiled: OnceLock::new(),
    }]
}

fn compile(source: &Value) -> Compiled {
    let rules = compile_schema(source);
    let mut source = source.clone();
    if let Some(properties) = source.get_mut("properties").and_then(Value::as_object_mut) {
        let metadata = yaml(include_str!("../../schemas/metadata.yaml"));
        properties.insert("metadata".to_owned(), metadata);
        for text in ["apiVersion", "kind"] {
            properties.insert(text.to_owned(), serde_json::json!({ "type": "string" }));
        }
    }
    let structure = serde_json::from_value(source).expect("the schema is structural");
    Compiled { structure, rules }
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("the schema is YAML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_and_rule_compiles() {
        for kind in Kind::all() {
            for channel in [Channel::Standard, Channel::Experimental] {
                for version in kind.versions(channel) {
                    let compiled = compile(&version.schema.source);
                    assert_eq!(broken_rules(&compiled.rules), 0, "{} {}", kind.name, version.name);
                }
            }
        }
    }

    #[test]
    fn the_vendored_crds_are_of_the_version_that_is_named() {
        for text in [
            include_str!("../../crds/standard/gateways.json"),
            include_str!("../../crds/experimental/gateways.json"),
        ] {
            let crd = yaml(text);
            let version =
                &crd["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"];
            assert_eq!(version, GATEWAY_API_VERSION);
        }
    }

    #[test]
    fn every_field_of_our_own_kinds_is_described() {
        for kind in Kind::all().iter().filter(|kind| kind.group == L4WAY_GROUP) {
            let spec = &kind.versions(Channel::Standard)[0].schema.source["properties"]["spec"];
            assert_eq!(undescribed(spec, "spec"), Vec::<String>::new(), "{}", kind.name);
        }
    }

    /// Where a schema and those of its fields have no description.
    fn undescribed(schema: &Value, path: &str) -> Vec<String> {
        let own = schema["description"].is_null().then(|| path.to_owned());
        let fields = |schema: &Value| schema["properties"].as_object().cloned().unwrap_or_default();
        let below = fields(schema).into_iter().chain(fields(&schema["items"]));
        own.into_iter()
            .chain(below.flat_map(|(name, field)| undescribed(&field, &format!("{path}.{name}"))))
            .collect()
    }

    fn broken_rules(schema: &CompiledSchema) -> usize {
        schema.compilation_errors().len()
            + schema.properties.values().map(broken_rules).sum::<usize>()
            + schema.items.iter().map(|items| broken_rules(items)).sum::<usize>()
            + schema.additional_properties.iter().map(|schema| broken_rules(schema)).sum::<usize>()
    }
}
