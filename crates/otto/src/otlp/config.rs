//! Where telemetry is sent, from the standard environment variables of OpenTelemetry.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::env::{self, Environment};

/// Where and how telemetry is sent.
#[derive(Debug, Clone)]
pub struct OtlpConfig {
    endpoint: Url,
    pub(super) headers: Vec<(String, SecretString)>,
    pub(super) service: Arc<str>,
    pub(super) metrics_every: Duration,
}

/// A variable cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable}: expected {expected}")]
pub struct InvalidOtlp {
    /// Its name. Its value may hold a credential and is not shown.
    pub variable: &'static str,
    /// What was expected.
    pub expected: &'static str,
}

/// How often metrics are sent by default (OpenTelemetry SDK specification).
const METRICS_EVERY: Duration = Duration::from_secs(60);
/// BOUND: the shortest interval that is taken.
const METRICS_MIN_MS: u64 = 100;

impl OtlpConfig {
    /// What the environment says; `None` where no receiver is named: nothing is sent then.
    ///
    /// # Errors
    /// When a variable cannot be read as what it is to be.
    pub fn from_environment(environment: &Environment) -> Result<Option<Self>, InvalidOtlp> {
        let Some(endpoint) = environment.variable(env::OTEL_EXPORTER_OTLP_ENDPOINT) else {
            return Ok(None);
        };
        let endpoint = parse_endpoint(endpoint).ok_or(InvalidOtlp {
            variable: env::OTEL_EXPORTER_OTLP_ENDPOINT,
            expected: "the http or https address of a receiver without user and password, such as http://127.0.0.1:4318",
        })?;
        let headers = match environment.variable(env::OTEL_EXPORTER_OTLP_HEADERS) {
            None => Vec::new(),
            Some(text) => parse_headers(text).ok_or(InvalidOtlp {
                variable: env::OTEL_EXPORTER_OTLP_HEADERS,
                expected: "`name=value,name=value`",
            })?,
        };
        let metrics_every = match environment.variable(env::OTEL_METRIC_EXPORT_INTERVAL) {
            None => METRICS_EVERY,
            Some(text) => text
                .parse()
                .ok()
                .filter(|millis| *millis >= METRICS_MIN_MS)
                .map(Duration::from_millis)
                .ok_or(InvalidOtlp {
                    variable: env::OTEL_METRIC_EXPORT_INTERVAL,
                    expected: "milliseconds, at least 100",
                })?,
        };
        Ok(Some(Self {
            endpoint,
            headers,
            service: Arc::from(
                environment
                    .variable(env::OTEL_SERVICE_NAME)
                    .unwrap_or("otto"),
            ),
            metrics_every,
        }))
    }

    /// The address for one signal, below the base address.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint.as_str().trim_end_matches('/'))
    }

    /// Host and port, for people.
    pub(super) fn shown(&self) -> String {
        let host = self.endpoint.host_str().unwrap_or_default();
        match self.endpoint.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

fn parse_endpoint(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_usable = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none();
    is_usable.then_some(url)
}

fn parse_headers(text: &str) -> Option<Vec<(String, SecretString)>> {
    text.split(',')
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = name.trim();
            let is_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            let is_value = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            (is_name && is_value).then(|| (name.to_owned(), SecretString::from(value.trim())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Result<Option<OtlpConfig>, InvalidOtlp> {
        OtlpConfig::from_environment(&Environment::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn nothing_is_sent_unless_a_receiver_is_named() {
        assert!(read(&[("OTEL_SERVICE_NAME", "x")]).unwrap().is_none());
        let config = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/base/"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2, b=c"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(
            config.url("v1/traces"),
            "http://127.0.0.1:4318/base/v1/traces"
        );
        assert_eq!(config.headers.len(), 2);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_read_is_told_without_its_value() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://hunter2"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@host"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1"),
        ] {
            let mut pairs = vec![(name, value)];
            if name != "OTEL_EXPORTER_OTLP_ENDPOINT" {
                pairs.push(("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"));
            }
            let error = read(&pairs).unwrap_err();
            assert_eq!(error.variable, name);
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
