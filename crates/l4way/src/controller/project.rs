//! Whether an object is as it should be. The API server adds defaults, and others add what is theirs:
//! only what we ask for is compared.

use serde_json::{Map, Value};

/// What an object has in the places of `shape`: the same as `shape` if the object is as it should be.
pub(crate) fn project(observed: &Value, shape: &Value) -> Value {
    match (observed, shape) {
        (Value::Object(observed), Value::Object(shape)) => {
            let fields = shape
                .iter()
                .filter_map(|(key, shape)| Some((key.clone(), project(observed.get(key)?, shape))));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        // The items of our lists are in an order of ours; defaults are added inside of them.
        (Value::Array(observed), Value::Array(shape)) if observed.len() == shape.len() => {
            observed.iter().zip(shape).map(|(observed, shape)| project(observed, shape)).collect()
        }
        _ => observed.clone(),
    }
}

/// Whether the object has all that is desired of it.
pub(crate) fn covers(observed: &Value, desired: &Value) -> bool {
    project(observed, desired) == *desired
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_is_passed_over() {
        let desired = json!({"a": {"b": 1}, "list": [{"name": "x"}]});
        let observed =
            json!({"a": {"b": 1, "c": 2}, "list": [{"name": "x", "default": 1}], "d": 3});
        assert!(covers(&observed, &desired));
        assert_eq!(project(&observed, &desired), desired);
    }

    #[test]
    fn what_differs_is_found() {
        let desired = json!({"a": {"b": 1}, "list": [1, 2]});
        for observed in [
            json!({"a": {"b": 2}, "list": [1, 2]}),
            json!({"a": {}, "list": [1, 2]}),
            json!({"a": {"b": 1}, "list": [1]}),
            json!({"a": {"b": 1}, "list": [2, 1]}),
            json!({"a": 1, "list": [1, 2]}),
            json!(null),
        ] {
            assert!(!covers(&observed, &desired), "{observed}");
        }
    }
}
