//! Requests that nobody should send, derived from the OpenAPI document: every parameter and every field with wrong
//! types, odd values, missing and unknown names, broken and huge bodies. Each is answered, each refusal is a problem
//! document, and none is the server's fault.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::world::{Answer, World};

/// Values for a place in a path, percent-encoded.
const ODD_TEXTS: [&str; 14] = [
    "x",
    "%20",
    "%00",
    "%ff",
    "..%2f..%2fetc%2fpasswd",
    "%F0%9F%92%A5",
    "%E2%80%AE",
    "-1",
    "1e9",
    "null",
    "'%20OR%201=1",
    "%7B%7B7*7%7D%7D",
    "00000000-0000-0000-0000-000000000000",
    "01a20846-fe00-7102-8000-000000000002",
];

#[tokio::test]
async fn hostile_requests_are_answered_with_typed_problems() {
    let world = World::new("turns: [{ text: Hello, repeat: forever }]").await;
    let document = world.get("/openapi.json").await.json();
    let mut sent = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let attack = Attack {
                world: &world,
                document: &document,
                method: method.to_uppercase().parse().unwrap(),
                path,
                operation,
            };
            sent += attack.paths().await;
            sent += attack.queries().await;
            sent += attack.headers().await;
            sent += attack.bodies().await;
        }
    }
    println!("{sent} hostile requests");
    assert!(sent > 500, "the document says too little: {sent}");
    let report = json!({"agent": "helper", "task": "after all that", "wait": true});
    world.post("/v1/invocations", &report).await.expect(200);
}

struct Attack<'a> {
    world: &'a World,
    document: &'a Value,
    method: Method,
    path: &'a str,
    operation: &'a Value,
}

impl Attack<'_> {
    fn parameters(&self, place: &str) -> Vec<&Value> {
        self.operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == place)
            .collect()
    }

    /// The path with this text in all its places.
    fn filled(&self, text: &str) -> String {
        let mut path = self.path.to_owned();
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            path.replace_range(from..=to, text);
        }
        path
    }

    /// A path whose ids have the right form.
    fn usual(&self) -> String {
        self.filled(ODD_TEXTS[13])
    }

    async fn paths(&self) -> usize {
        if !self.path.contains('{') {
            return 0;
        }
        for text in ODD_TEXTS {
            self.send(&self.filled(text), |request| request).await;
        }
        let long = "a".repeat(20_000);
        self.send(&self.filled(&long), |request| request).await;
        ODD_TEXTS.len() + 1
    }

    async fn queries(&self) -> usize {
        let mut queries = vec![
            "unknown=1".to_owned(),
            "=".to_owned(),
            "&&&".to_owned(),
            "%".to_owned(),
        ];
        for parameter in self.parameters("query") {
            let name = parameter["name"].as_str().unwrap();
            for text in ODD_TEXTS {
                queries.push(format!("{name}={text}"));
            }
            queries.push(name.to_owned());
            queries.push(format!("{name}=1&{name}=2"));
            queries.push(format!("{name}[]=1"));
            queries.push(format!("{name}={}", "9".repeat(400)));
        }
        for query in &queries {
            self.send(&format!("{}?{query}", self.usual()), |request| request)
                .await;
        }
        queries.len()
    }

    async fn headers(&self) -> usize {
        let mut sent = 0;
        let odd: [&[u8]; 7] = [
            b"",
            b" ",
            b"x",
            b"\xff\xfe",
            b"-1",
            b"bytes=a-b",
            &[b'k'; 500],
        ];
        for parameter in self.parameters("header") {
            let name = parameter["name"].as_str().unwrap();
            for value in odd {
                self.send(&self.usual(), |request| request.header(name, value))
                    .await;
                sent += 1;
            }
        }
        sent
    }

    async fn bodies(&self) -> usize {
        let schema = &self.operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            return 0;
        }
        let path = self.usual();
        let mut sent = 0;
        let whole = self.example(schema);
        let mut bodies: Vec<Vec<u8>> = ["", "{", "nul", "\u{feff}{}", "{\"a\":1,\"a\":1}", "1e999"]
            .into_iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
        bodies.push(b"{\"task\":\"\xff\"}".to_vec());
        bodies.push("[".repeat(200_000).into_bytes());
        bodies.push(vec![b' '; 5 * 1024 * 1024]);
        bodies.extend(
            odd_values()
                .iter()
                .map(|value| value.to_string().into_bytes()),
        );
        bodies.extend(
            mutated(&whole)
                .iter()
                .map(|value| value.to_string().into_bytes()),
        );
        for body in bodies {
            self.send(&path, |request| {
                request
                    .header("content-type", "application/json")
                    .body(body.clone())
            })
            .await;
            sent += 1;
        }
        for kind in [
            "",
            "text/plain",
            "application/xml",
            "application/jsonx",
            "\u{7f}",
        ] {
            self.send(&path, |request| {
                let request = request.body(whole.to_string());
                match reqwest::header::HeaderValue::from_bytes(kind.as_bytes()) {
                    Ok(kind) => request.header("content-type", kind),
                    Err(_) => request,
                }
            })
            .await;
            sent += 1;
        }
        sent
    }

    /// A value that the schema allows, with everything in it that may be there.
    fn example(&self, schema: &Value) -> Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let found = self.document.pointer(&reference[1..]).unwrap();
            return self.example(found);
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds[0].as_str(),
            kind => kind.as_str(),
        };
        match kind {
            Some("object") => {
                let properties = schema["properties"]
                    .as_object()
                    .cloned()
                    .unwrap_or_default();
                let fields: Map<String, Value> = properties
                    .iter()
                    .map(|(name, schema)| {
                        let value = match name.as_str() {
                            "agent" => "helper".into(),
                            "session" | "workflow" => Value::Null,
                            _ => self.example(schema),
                        };
                        (name.clone(), value)
                    })
                    .collect();
                fields.into()
            }
            Some("integer") => 7.into(),
            Some("boolean") => false.into(),
            Some("string") => "0.25".into(),
            _ => Value::Null,
        }
    }

    async fn send(
        &self,
        path: &str,
        with: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) {
        let request = with(self.world.request(self.method.clone(), path));
        let Ok(response) = request.send().await else {
            // A head that is larger than the server reads, or a body that it did not wait for: the connection ends.
            return;
        };
        let status = response.status();
        let kind = response.headers().get("content-type");
        if status.is_success() && kind.is_some_and(|kind| kind == "text/event-stream") {
            return;
        }
        let shown: String = path.chars().take(200).collect();
        let told = format!("{} {shown}: {status}", self.method);
        if status.is_success() || status == 304 {
            // Whatever a mutation threw must not decide what the next one gets.
            self.world.otto.lift_kill().await.unwrap();
            return;
        }
        // What hyper refuses by itself has no body to speak of.
        if matches!(status.as_u16(), 414 | 431) {
            return;
        }
        assert!(status.is_client_error(), "{told}");
        let answer = Answer::read(response).await;
        if answer.body.is_empty() && status == 400 {
            return;
        }
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{told}"
        );
        let problem = answer.json();
        assert_eq!(problem["status"], status.as_u16(), "{told}");
        assert!(
            problem["type"]
                .as_str()
                .unwrap()
                .starts_with("urn:otto:problem:"),
            "{told}"
        );
        assert_ne!(problem["detail"], "", "{told}");
    }
}

fn odd_values() -> Vec<Value> {
    vec![
        Value::Null,
        true.into(),
        0.into(),
        (-1).into(),
        u64::MAX.into(),
        json!(1.5),
        json!(1e300),
        "".into(),
        "\u{0}".into(),
        "\u{202e}\u{1f4a5}".into(),
        "a".repeat(100_000).into(),
        json!([]),
        json!([null]),
        json!({}),
        json!({"a": {"a": {}}}),
    ]
}

/// The value with each field, at any depth, missing, of every odd value, and with one that is unknown.
fn mutated(value: &Value) -> Vec<Value> {
    let Value::Object(fields) = value else {
        return odd_values();
    };
    let mut all = Vec::new();
    for (name, inner) in fields {
        let with = |changed: Value| {
            let mut fields = fields.clone();
            fields.insert(name.clone(), changed);
            Value::Object(fields)
        };
        let mut without = fields.clone();
        without.remove(name);
        all.push(Value::Object(without));
        let values = if inner.is_object() {
            mutated(inner)
        } else {
            odd_values()
        };
        all.extend(values.into_iter().map(with));
    }
    let mut more = fields.clone();
    more.insert("unknown".to_owned(), Value::Null);
    all.push(Value::Object(more));
    all
}
