//! What is kept of an answer while it is read. Somebody else's object may be large in what is of no use
//! to l4way, and there may be many of them: that never takes the form of values in memory.

use std::{borrow::Cow, fmt};

use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope, ObjectMeta, PartialObjectMeta},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// What tells an object from others, and its versions from each other.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl From<Identity> for ObjectMeta {
    fn from(identity: Identity) -> Self {
        let Identity { name, namespace, uid, resource_version } = identity;
        Self { name, namespace, uid, resource_version, ..Self::default() }
    }
}

/// An object of which only the metadata is asked for, and of that only the identity kept.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Outline {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
}

fn identity<'de, D: Deserializer<'de>>(metadata: D) -> Result<ObjectMeta, D::Error> {
    Identity::deserialize(metadata).map(ObjectMeta::from)
}

/// An object as the API server has it, without what only other writers need: `managedFields`, and the
/// whole object that kubectl keeps in an annotation.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// The identity alone.
    metadata: ObjectMeta,
    pub(crate) value: Value,
}

impl From<PartialObjectMeta> for Object {
    fn from(object: PartialObjectMeta) -> Self {
        let PartialObjectMeta { mut metadata, .. } = object;
        metadata.managed_fields = None;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove(LAST_APPLIED);
        }
        let value = serde_json::json!({ "metadata": metadata });
        Self { metadata, value }
    }
}

/// The annotation in which kubectl keeps a whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Where fields are passed over: at the top, in `metadata`, or in its annotations.
#[derive(Clone, Copy)]
enum Level {
    Top,
    Metadata,
    Annotations,
}

impl Level {
    /// The level of the value of this key, if fields of it are passed over.
    fn below(self, key: &str) -> Option<Self> {
        match (self, key) {
            (Self::Top, "metadata") => Some(Self::Metadata),
            (Self::Metadata, "annotations") => Some(Self::Annotations),
            _ => None,
        }
    }

    fn is_passed_over(self, key: &str) -> bool {
        matches!((self, key), (Self::Metadata, "managedFields") | (Self::Annotations, LAST_APPLIED))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if self.is_passed_over(&key) {
                fields.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = match self.below(&key) {
                Some(level) => fields.next_value_seed(level)?,
                None => fields.next_value()?,
            };
            read.insert(key, value);
        }
        Ok(Value::Object(read))
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Level::Top.deserialize(deserializer)?;
        let metadata = Identity::deserialize(&value["metadata"]).map_err(D::Error::custom)?;
        Ok(Self { metadata: metadata.into(), value })
    }
}

/// Both are of any kind.
macro_rules! of_any_kind {
    ($type:ty, $metadata_only:literal) => {
        impl Resource for $type {
            type DynamicType = ApiResource;
            type Scope = DynamicResourceScope;

            fn metadata_api() -> bool {
                $metadata_only
            }

            fn kind(resource: &ApiResource) -> Cow<'_, str> {
                Cow::Borrowed(&resource.kind)
            }

            fn group(resource: &ApiResource) -> Cow<'_, str> {
                Cow::Borrowed(&resource.group)
            }

            fn version(resource: &ApiResource) -> Cow<'_, str> {
                Cow::Borrowed(&resource.version)
            }

            fn api_version(resource: &ApiResource) -> Cow<'_, str> {
                Cow::Borrowed(&resource.api_version)
            }

            fn plural(resource: &ApiResource) -> Cow<'_, str> {
                Cow::Borrowed(&resource.plural)
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

of_any_kind!(Outline, true);
of_any_kind!(Object, false);

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "db", "namespace": "apps", "uid": "u", "resourceVersion": "7",
            "managedFields": [{"fieldsV1": {"f:spec": {}}}],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"
            },
            "labels": {"managedFields": "kept, too"}
        },
        "spec": {"managedFields": [1]}
    }"#;

    #[test]
    fn what_only_other_writers_need_is_passed_over() {
        let object: Object = serde_json::from_str(TEXT).unwrap();
        let mut whole: Value = serde_json::from_str(TEXT).unwrap();
        whole["metadata"].as_object_mut().unwrap().remove("managedFields");
        whole["metadata"]["annotations"].as_object_mut().unwrap().remove(LAST_APPLIED);
        assert_eq!(object.value, whole);
        assert_eq!(object.meta().name.as_deref(), Some("db"));
        assert_eq!(object.meta().resource_version.as_deref(), Some("7"));
        let empty = r#"{"metadata": {"name": "db", "annotations": null}}"#;
        assert!(serde_json::from_str::<Object>(empty).is_ok());
        assert!(serde_json::from_str::<Object>("[]").is_err());
    }

    #[test]
    fn of_an_outline_the_identity_is_kept() {
        let outline: Outline = serde_json::from_str(TEXT).unwrap();
        let identity = Identity::deserialize(serde_json::to_value(outline.meta()).unwrap());
        let identity = ObjectMeta::from(identity.unwrap());
        assert_eq!(*outline.meta(), identity);
        assert_eq!(identity.namespace.as_deref(), Some("apps"));
        assert_eq!(identity.uid.as_deref(), Some("u"));
        assert!(Outline::metadata_api() && !Object::metadata_api());
    }
}
