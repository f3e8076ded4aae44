//! The OpenAPI document (version 3.1.0), made from the list of routes and the types they use.
//!
//! Types come from `schemars`, which the tools' schemas use already: a second derive macro (utoipa) would add its
//! build time and a second description of every type for nothing. What is written by hand here is only the
//! frame around them.
//!
//! Invariant: what the router serves is in the document and the other way round; both come from one list.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::problem::Document;
use crate::routes::{self, Access, Answer, Parameter, Route};

/// The document as text.
pub(crate) static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| format!("{:#}\n", document(&routes::all())));

/// Collects the schemas of types below `#/components/schemas`.
pub(crate) struct Schemas {
    given: SchemaGenerator,
    told: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            given: settings().for_deserialize().into_generator(),
            told: settings().for_serialize().into_generator(),
        }
    }

    /// A reference to what a client may send.
    pub(crate) fn given<T: JsonSchema>(&mut self) -> Value {
        self.given.subschema_for::<T>().into()
    }

    /// What a client may send, in place.
    pub(crate) fn given_inline<T: JsonSchema>(&mut self) -> Value {
        T::json_schema(&mut self.given).into()
    }

    /// A reference to what the server sends.
    pub(crate) fn told<T: JsonSchema>(&mut self) -> Value {
        self.told.subschema_for::<T>().into()
    }

    fn components(mut self) -> Map<String, Value> {
        let mut all = self.given.take_definitions(true);
        all.extend(self.told.take_definitions(true));
        all
    }
}

fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas::new();
    let problem = schemas.told::<Document<'static>>();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let path = route.path.replace("{*", "{");
        let operation = operation(route, &mut schemas);
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[route.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Otto",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs AI agents under limits on money and power. Money is whole picodollars beside text; \
                            times are RFC 3339 in UTC. Every answer that is not a success is a problem document (RFC 9457).",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components(),
            "responses": {"Problem": {
                "description": "What was wrong, and what would work.",
                "content": {"application/problem+json": {"schema": problem}},
            }},
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "Needed when the server has tokens. A token allows read, invoke or admin; each includes the ones before it.",
            }},
        },
    })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let mut parameters: Vec<Value> = route.parameters.iter().map(parameter).collect();
    if let Some(query) = route.query {
        parameters.extend(query_parameters(&query(schemas)));
    }
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "responses": responses(&route.answers, schemas),
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if !route.bodies.is_empty() {
        let kinds = route.bodies.iter();
        let content: Map<String, Value> = kinds
            .map(|(kind, schema)| ((*kind).to_owned(), json!({"schema": schema(schemas)})))
            .collect();
        operation["requestBody"] = json!({"required": route.needs_body, "content": content});
    }
    match route.access {
        Access::Open => operation["security"] = json!([]),
        Access::Token(scope) => {
            operation["security"] = json!([{"token": []}, {}]);
            operation["x-otto-scope"] = scope.as_str().into();
        }
    }
    operation
}

fn parameter(parameter: &Parameter) -> Value {
    let mut value = json!({
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.place == "path",
        "schema": parameter.schema,
    });
    if let Some(example) = parameter.example {
        value["example"] = example.into();
    }
    value
}

fn query_parameters(schema: &Value) -> Vec<Value> {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let Some(properties) = schema["properties"].as_object() else {
        return Vec::new();
    };
    properties
        .iter()
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            let description = schema
                .as_object_mut()
                .and_then(|object| object.remove("description"));
            // A query parameter is absent or a text; it is never null.
            if let Some(kinds) = schema["type"].as_array() {
                schema["type"] = kinds[0].clone();
            }
            json!({
                "name": name,
                "in": "query",
                "description": description,
                "required": required.iter().any(|required| required == name),
                "schema": schema,
            })
        })
        .collect()
}

fn responses(answers: &[Answer], schemas: &mut Schemas) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    for answer in answers {
        let response = responses
            .entry(answer.status.as_str().to_owned())
            .or_insert_with(|| json!({"description": answer.description}));
        if let Some((kind, schema)) = answer.content {
            response["content"][kind] = json!({"schema": schema(schemas)});
        }
    }
    responses.insert(
        "default".to_owned(),
        json!({"$ref": "#/components/responses/Problem"}),
    );
    responses.into()
}
