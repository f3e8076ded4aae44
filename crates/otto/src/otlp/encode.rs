//! The JSON of OTLP: traces and metrics as a receiver takes them.

use std::time::Duration;

use otto_core::Timestamp;
use otto_engine::metrics::{Classes, Family, FamilyKind, Label, Sample, SampleValue, Unit};
use otto_engine::names;
use otto_engine::spans::{AttributeValue, FinishedSpan, SpanKind};
use serde_json::{Value, json};

/// Our own names of what the conventions have a name for, and theirs.
const OF_MODEL_CALLS: [(&str, &str); 2] = [
    (
        "otto_model_call_duration_seconds",
        "gen_ai.client.operation.duration",
    ),
    ("otto_model_call_tokens", "gen_ai.client.token.usage"),
];

/// Cumulative sums (`AggregationTemporality` of the protocol).
const CUMULATIVE: u8 = 2;
/// A failed span (`Status.StatusCode` of the protocol).
const STATUS_ERROR: u8 = 2;

/// A request with finished spans.
pub(super) fn traces(service: &str, spans: &[FinishedSpan]) -> Value {
    json!({"resourceSpans": [{
        "resource": resource(service),
        "scopeSpans": [{"scope": scope(), "spans": spans.iter().map(span).collect::<Vec<_>>()}],
    }]})
}

fn span(span: &FinishedSpan) -> Value {
    let mut value = json!({
        "traceId": hex(&span.trace_id),
        "spanId": hex(&span.span_id),
        "name": span.name,
        "kind": match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Client => 3,
        },
        "startTimeUnixNano": unix_nanos(span.start),
        "endTimeUnixNano": unix_nanos(span.end),
        "attributes": span.attributes.iter().map(|(name, value)| attribute(name, value)).collect::<Vec<_>>(),
    });
    if let Some(parent) = &span.parent {
        value["parentSpanId"] = hex(parent).into();
    }
    if let Some(error) = &span.error {
        value["status"] = json!({"code": STATUS_ERROR, "message": error});
    }
    value
}

/// A request with the numbers of a process since its start; the window is in nanoseconds since 1970.
pub(super) fn metrics(
    service: &str,
    provider: &str,
    families: &[Family],
    window: (u64, u64),
) -> Value {
    let metrics: Vec<Value> = families
        .iter()
        .filter(|family| !family.samples.is_empty())
        .map(|family| metric(family, provider, window))
        .collect();
    json!({"resourceMetrics": [{
        "resource": resource(service),
        "scopeMetrics": [{"scope": scope(), "metrics": metrics}],
    }]})
}

fn metric(family: &Family, provider: &str, window: (u64, u64)) -> Value {
    let conventional = OF_MODEL_CALLS
        .iter()
        .find_map(|(own, theirs)| (*own == family.name).then_some(*theirs));
    let points: Vec<Value> = family
        .samples
        .iter()
        .map(|sample| point(sample, conventional.map(|_| provider), window))
        .collect();
    let mut metric = json!({
        "name": conventional.unwrap_or(family.name),
        "description": family.help,
    });
    match family.kind {
        FamilyKind::Counter => {
            metric["sum"] = json!({"dataPoints": points, "aggregationTemporality": CUMULATIVE, "isMonotonic": true});
        }
        FamilyKind::Gauge => metric["gauge"] = json!({"dataPoints": points}),
        FamilyKind::Histogram => {
            let unit = family.samples.first().map(|sample| &sample.value);
            metric["unit"] = match unit {
                Some(SampleValue::Classes(classes)) if classes.unit == Unit::Tokens => "{token}",
                _ => "s",
            }
            .into();
            metric["histogram"] =
                json!({"dataPoints": points, "aggregationTemporality": CUMULATIVE});
        }
    }
    metric
}

/// A data point. That of a model call carries the names of the conventions.
fn point(sample: &Sample, provider: Option<&str>, (start, now): (u64, u64)) -> Value {
    let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let mut attributes: Vec<Value> = sample
        .labels
        .iter()
        .map(|(name, value): &(&str, Label)| match (*name, provider) {
            ("model", Some(_)) => text(names::REQUEST_MODEL, value.as_str()),
            ("type", Some(_)) => text(names::TOKEN_TYPE, value.as_str()),
            (name, _) => text(name, value.as_str()),
        })
        .collect();
    if let Some(provider) = provider {
        attributes.push(text(names::OPERATION_NAME, names::OPERATION_CHAT));
        attributes.push(text(names::PROVIDER_NAME, provider));
    }
    let mut point = json!({
        "attributes": attributes,
        "startTimeUnixNano": start.to_string(),
        "timeUnixNano": now.to_string(),
    });
    match &sample.value {
        SampleValue::Number(number) => point["asInt"] = number.to_string().into(),
        SampleValue::Classes(classes) => add_classes(&mut point, classes),
    }
    point
}

fn add_classes(point: &mut Value, classes: &Classes) {
    let told = |amount: u64| match classes.unit {
        Unit::Microseconds => Duration::from_micros(amount).as_secs_f64(),
        // Exact up to 2^53, which no process counts.
        Unit::Tokens => amount as f64,
    };
    point["count"] = classes.count().to_string().into();
    point["sum"] = told(classes.sum).into();
    point["bucketCounts"] = classes.counts.iter().map(u64::to_string).collect();
    point["explicitBounds"] = classes.bounds.iter().map(|bound| told(*bound)).collect();
}

fn resource(service: &str) -> Value {
    json!({"attributes": [
        attribute("service.name", &service.into()),
        attribute("service.version", &env!("CARGO_PKG_VERSION").into()),
    ]})
}

fn scope() -> Value {
    json!({"name": "otto", "version": env!("CARGO_PKG_VERSION")})
}

fn attribute(name: &str, value: &AttributeValue) -> Value {
    let value = match value {
        AttributeValue::Text(text) => json!({"stringValue": text}),
        AttributeValue::Number(number) => json!({"intValue": number.to_string()}),
        AttributeValue::Texts(texts) => {
            let values: Vec<Value> = texts
                .iter()
                .map(|text| json!({"stringValue": text}))
                .collect();
            json!({"arrayValue": {"values": values}})
        }
    };
    json!({"key": name, "value": value})
}

fn unix_nanos(at: Timestamp) -> String {
    at.micros().saturating_mul(1_000).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_numbers_have_the_form_of_the_protocol() {
        let request = traces(
            "otto",
            &[FinishedSpan {
                trace_id: [0xab; 16],
                span_id: [1; 8],
                parent: Some([2; 8]),
                name: "chat m".to_owned(),
                kind: SpanKind::Client,
                start: Timestamp::from_micros(1),
                end: Timestamp::from_micros(2),
                attributes: vec![("n", 7.into()), ("t", "x".into())],
                error: Some("timeout".into()),
            }],
        );
        let span = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "ab".repeat(16));
        assert_eq!(span["parentSpanId"], "02".repeat(8));
        assert_eq!(
            (&span["kind"], &span["status"]["code"]),
            (&3.into(), &2.into())
        );
        assert_eq!(span["startTimeUnixNano"], "1000");
        assert_eq!(span["attributes"][0]["value"]["intValue"], "7");

        let family = Family {
            name: "otto_model_call_duration_seconds",
            help: "h",
            kind: FamilyKind::Histogram,
            samples: vec![Sample {
                labels: vec![("model", Label::Word("m"))],
                value: SampleValue::Classes(Classes {
                    unit: Unit::Microseconds,
                    bounds: &[500_000],
                    counts: vec![1, 2],
                    sum: 3_000_000,
                }),
            }],
        };
        let request = metrics("otto", "anthropic", &[family], (1, 2));
        let metric = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0];
        assert_eq!(metric["name"], "gen_ai.client.operation.duration");
        let point = &metric["histogram"]["dataPoints"][0];
        assert_eq!((&point["count"], &point["sum"]), (&"3".into(), &3.0.into()));
        assert_eq!(point["explicitBounds"], json!([0.5]));
        assert_eq!(point["bucketCounts"], json!(["1", "2"]));
        let keys: Vec<_> = point["attributes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["key"].as_str().unwrap())
            .collect();
        assert_eq!(
            keys,
            [
                names::REQUEST_MODEL,
                names::OPERATION_NAME,
                names::PROVIDER_NAME
            ]
        );
    }
}
