//! Copies the CRDs of a Gateway API release into `crds/`, without their descriptions.
//! `crds/README.md` says how to call it.

use std::{error::Error, fs, path::Path};

use serde_json::{Value, json};

const KINDS: [&str; 10] = [
    "backendtlspolicies",
    "gatewayclasses",
    "gateways",
    "grpcroutes",
    "httproutes",
    "listenersets",
    "referencegrants",
    "tcproutes",
    "tlsroutes",
    "udproutes",
];

fn main() -> Result<(), Box<dyn Error>> {
    let module = std::env::args().nth(1).ok_or("name the directory of the Gateway API module")?;
    let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    fs::write(to.join("LICENSE"), fs::read(Path::new(&module).join("LICENSE"))?)?;
    for channel in ["standard", "experimental"] {
        fs::create_dir_all(to.join(channel))?;
        for kind in KINDS {
            let from =
                format!("{module}/config/crd/{channel}/gateway.networking.k8s.io_{kind}.yaml");
            let crd = serde_saphyr::from_str(&fs::read_to_string(&from)?)?;
            let mut text = serde_json::to_string(&trimmed(&crd))?;
            text.push('\n');
            fs::write(to.join(channel).join(format!("{kind}.json")), text)?;
        }
    }
    Ok(())
}

/// The parts of a CRD that validation needs.
fn trimmed(crd: &Value) -> Value {
    let spec = &crd["spec"];
    let version = |version: &Value| {
        let mut schema = without_descriptions(&version["schema"]["openAPIV3Schema"]);
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.remove("status");
        }
        json!({
            "name": version["name"],
            "served": version["served"],
            "deprecated": version["deprecated"].as_bool().unwrap_or_default(),
            "schema": { "openAPIV3Schema": schema },
        })
    };
    let versions: Vec<_> = spec["versions"].as_array().into_iter().flatten().map(version).collect();
    json!({
        "apiVersion": crd["apiVersion"],
        "kind": crd["kind"],
        "metadata": { "name": crd["metadata"]["name"], "annotations": crd["metadata"]["annotations"] },
        "spec": { "group": spec["group"], "names": spec["names"], "scope": spec["scope"], "versions": versions },
    })
}

/// A schema without the texts that describe it. A *property* may well be called `description`.
fn without_descriptions(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let kept =
                fields.iter().filter(|(name, value)| *name != "description" || !value.is_string());
            Value::Object(
                kept.map(|(name, value)| (name.clone(), without_descriptions(value))).collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_descriptions).collect()),
        value => value.clone(),
    }
}
