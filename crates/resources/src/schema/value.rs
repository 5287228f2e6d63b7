//! The structural schema of a value, as CustomResourceDefinitions write it (OpenAPI v3 with
//! Kubernetes' extensions).

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value;

/// What a value may be. A keyword that isn't known here is an error when the schema is read, so
/// that none is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Schema {
    #[serde(rename = "type")]
    pub(super) kind: Option<Type>,
    pub(super) nullable: bool,
    #[serde(rename = "enum")]
    pub(super) allowed: Vec<Value>,
    pub(super) default: Option<Value>,
    pub(super) format: Option<Format>,

    pub(super) minimum: Option<i64>,
    pub(super) maximum: Option<i64>,

    pub(super) min_length: Option<usize>,
    pub(super) max_length: Option<usize>,
    pub(super) pattern: Option<Pattern>,

    pub(super) items: Option<Box<Schema>>,
    pub(super) min_items: Option<usize>,
    pub(super) max_items: Option<usize>,
    #[serde(rename = "x-kubernetes-list-type")]
    pub(super) list_type: ListType,
    #[serde(rename = "x-kubernetes-list-map-keys")]
    pub(super) list_map_keys: Vec<String>,

    pub(super) properties: BTreeMap<String, Schema>,
    pub(super) additional_properties: Option<AdditionalProperties>,
    pub(super) required: Vec<String>,
    pub(super) max_properties: Option<usize>,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    pub(super) preserve_unknown_fields: bool,
    #[serde(rename = "x-kubernetes-int-or-string")]
    pub(super) int_or_string: bool,

    pub(super) any_of: Vec<Schema>,
    pub(super) one_of: Vec<Schema>,
    pub(super) not: Option<Box<Schema>>,

    #[serde(rename = "description")]
    _description: IgnoredAny,
    /// Matters to server-side apply only.
    #[serde(rename = "x-kubernetes-map-type")]
    _map_type: IgnoredAny,
    /// CEL rules: kube-cel reads them.
    #[serde(rename = "x-kubernetes-validations")]
    _validations: IgnoredAny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Format {
    Int32,
    Int64,
    Ipv4,
    Ipv6,
    /// A network, as Go's `net.ParseCIDR` reads it.
    Cidr,
    DateTime,
    /// Base64 (RFC 4648, 4).
    Byte,
}

impl Format {
    /// What a value of this format is.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Int32 => "an integer of 32 bits",
            Self::Int64 => "an integer of 64 bits",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::Cidr => "a network such as 192.0.2.0/24 or 2001:db8::/32",
            Self::DateTime => "a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z",
            Self::Byte => "base64",
        }
    }
}

/// How a list's items are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum AdditionalProperties {
    Any(bool),
    Schema(Box<Schema>),
}

/// A regular expression. Go's syntax, which API servers use, is the regex crate's.
#[derive(Debug)]
pub(super) struct Pattern(pub(super) Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Regex::new(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Schema {
    /// The schema of the values of keys that `properties` doesn't name.
    pub(super) fn additional(&self) -> Option<&Schema> {
        match &self.additional_properties {
            Some(AdditionalProperties::Schema(schema)) => Some(schema),
            _ => None,
        }
    }

    /// Whether a mapping may have keys that `properties` doesn't name.
    pub(super) fn is_open(&self) -> bool {
        self.preserve_unknown_fields
            || self.properties.is_empty()
            || matches!(
                self.additional_properties,
                Some(AdditionalProperties::Any(true) | AdditionalProperties::Schema(_))
            )
    }
}
