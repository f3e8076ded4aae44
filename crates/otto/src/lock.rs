//! What the main process may still touch when it locks itself: for the `otto` command, and for applications
//! that want the same.
//!
//! Base tools run in workers. A tool of an application, or a tool with a bug that forgets its worker, runs in
//! this process. After [`crate::lock_main`] the kernel refuses it every file but the state directory and the
//! configuration, every program, and every connection but to the provider's port.
//!
//! It is offered and not forced: an application knows best what else it has to open. It calls
//! [`crate::boot`], then [`crate::lock_main`] with [`lock_config`] and what it adds to it, then starts its
//! runtime. `crates/otto/tests/locked` is an example from end to end.
//!
//! Invariant: no working directory and no root of an agent is among what is granted here; files of agents are
//! the workers' business.

use std::path::{Path, PathBuf};

use otto_core::port::store::StoreError;
use otto_engine::clock::{Clock, IdSource, RandomIds, SystemClock};
use otto_sandbox::{Connections, LockConfig};

use crate::config::{OperatorConfig, SYSTEM_CONFIG};
use crate::env::{self, Environment};
use crate::load::PROJECT_AGENTS;
use crate::user;

/// What Otto itself needs: its state and the user's, to be changed; configuration and agent files of the project and the
/// user, to be read again when they change; the port of the provider.
///
/// Makes the state directory and that of the user, because only what exists can be granted. A state directory
/// inside the project is claimed for the user first, as at every opening: one that came with the project is
/// neither used nor granted.
///
/// # Errors
/// When the state directory cannot be made or is not the user's.
pub fn lock_config(
    operator: &OperatorConfig,
    project: &Path,
    environment: &Environment,
) -> Result<LockConfig, StoreError> {
    let state_dir = &operator.state_dir.value;
    let user_state_dir = operator.user_state_dir.as_deref();
    if operator.has_default_state_dir() {
        let mark = RandomIds.session(SystemClock::start().now()).to_string();
        user::claim(state_dir, user_state_dir, &mark)?;
    } else {
        otto_store_embedded::create_state_dir(state_dir)?;
    }
    // Where it cannot be made, the day's money cannot be kept either, and that says so in its own words.
    let user_state_dir =
        user_state_dir.filter(|dir| otto_store_embedded::create_state_dir(dir).is_ok());
    let path = |name: &str| environment.variable(name).map(|text| project.join(text));
    let read_only = [
        Some(project.join(PROJECT_AGENTS)),
        operator.config_dir.clone(),
        path(env::OTTO_CONFIG),
        Path::new(SYSTEM_CONFIG).parent().map(Path::to_owned),
        path("SSL_CERT_FILE"),
        path("SSL_CERT_DIR"),
    ];
    Ok(LockConfig {
        read_write: std::iter::once(state_dir.as_path())
            .chain(user_state_dir)
            .map(Path::to_owned)
            .collect(),
        read_only: read_only.into_iter().flatten().collect::<Vec<PathBuf>>(),
        connections: connections(&operator.endpoint.value, environment),
    })
}

/// Variables that send the provider's calls elsewhere.
const PROXIES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Variables that name a collector of telemetry.
const COLLECTORS: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
];

/// The ports of the provider and of collectors. With a proxy, or an address that is not understood here, every
/// port: a lock must not decide what works.
fn connections(endpoint: &str, environment: &Environment) -> Connections {
    let is_set = |name: &&str| environment.variable(name).is_some();
    if PROXIES.iter().any(is_set) {
        return Connections::Anywhere;
    }
    let addresses = COLLECTORS
        .iter()
        .filter_map(|name| environment.variable(name))
        .chain([endpoint]);
    match addresses.map(port_of).collect() {
        Some(ports) => Connections::Ports(ports),
        None => Connections::Anywhere,
    }
}

/// The port of an address such as `https://host:8443/path`.
fn port_of(address: &str) -> Option<u16> {
    let (scheme, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_and_port = authority.rsplit('@').next()?;
    match host_and_port.rsplit_once(':') {
        // The colon may be one inside an IPv6 address.
        Some((_, port)) if !port.contains(']') => port.parse().ok(),
        _ => match scheme.to_ascii_lowercase().as_str() {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_the_provider_is_all_that_is_needed() {
        for (address, port) in [
            ("https://api.anthropic.com", Some(443)),
            ("http://127.0.0.1:8080/v1", Some(8080)),
            ("http://[::1]:9000", Some(9000)),
            ("http://[::1]", Some(80)),
            ("HTTPS://host/path:77", Some(443)),
            ("http://user:77@host", Some(80)),
            ("host", None),
            ("ftp://host", None),
            ("http://host:x", None),
        ] {
            assert_eq!(port_of(address), port, "{address}");
        }
        let ports = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| (*name, *value));
            connections("https://api.anthropic.com", &Environment::from_pairs(pairs))
        };
        assert_eq!(ports(&[]), Connections::Ports(vec![443]));
        assert_eq!(
            ports(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")]),
            Connections::Ports(vec![4318, 443])
        );
        assert_eq!(
            ports(&[("HTTPS_PROXY", "http://proxy:3128")]),
            Connections::Anywhere
        );
    }
}
