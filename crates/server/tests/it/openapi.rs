//! The OpenAPI document: what clients are built from, so a change of it is a change for users.

use std::path::Path;

use serde_json::Value;

use crate::world::World;

const GOLDEN: &str = include_str!("../golden/openapi.json");

/// After a wanted change: `OTTO_WRITE_GOLDEN=1 cargo test -p otto-server`, then read the difference.
#[tokio::test]
async fn the_document_is_the_golden_one() {
    let world = World::new("turns: [{ text: Hello }]").await;
    let served = world.get("/openapi.json").await.expect(200);
    assert_eq!(served.header("content-type"), "application/json");
    if std::env::var_os("OTTO_WRITE_GOLDEN").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi.json");
        std::fs::write(path, &served.body).unwrap();
        return;
    }
    assert!(
        served.body == GOLDEN,
        "the document differs from tests/golden/openapi.json: that is a change for every client"
    );
}

#[test]
fn the_document_holds_together() {
    let document: Value = serde_json::from_str(GOLDEN).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = std::collections::BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} is there twice");
            let told = format!("{method} {path}");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{told}");
            let named: Vec<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let in_path: Vec<&str> = path
                .split('{')
                .skip(1)
                .map(|rest| rest.split('}').next().unwrap())
                .collect();
            assert_eq!(named, in_path, "{told}");
            assert!(operation["responses"]["default"].is_object(), "{told}");
            assert!(
                operation["responses"].as_object().unwrap().len() > 1,
                "{told}"
            );
        }
    }
    references(&document, &document);
}

/// Every reference leads somewhere.
fn references(document: &Value, part: &Value) {
    match part {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(
                    document.pointer(pointer).is_some(),
                    "{reference} leads nowhere"
                );
            }
            fields
                .values()
                .for_each(|value| references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| references(document, value)),
        _ => {}
    }
}
