//! From the operator's configuration to a builder: everything that the operator decides, in one place.
//!
//! What an application decides (its tools, its agents, its tool host) is added by the caller.
//!
//! Invariant: the provider's key goes from the environment into the client and the redactor, and nowhere else.

use std::sync::Arc;

use otto_anthropic::{AnthropicClient, AnthropicConfig};
use otto_core::model::PriceTable;
use otto_core::redact::{ExactSecret, RedactionConfig, Redactor};
use otto_engine::Ceilings;
use secrecy::{ExposeSecret, SecretString};

use crate::builder::{Builder, OpenError};
use crate::config::{OperatorConfig, Setting};

impl Builder {
    /// A builder with everything the operator has decided: whether agents run, ceilings, endpoint and key,
    /// prices, redaction, audit mode, state directory.
    ///
    /// # Errors
    /// When there is no key, or endpoint, key or a redaction pattern cannot be used.
    pub fn configured(operator: &OperatorConfig) -> Result<Self, OpenError> {
        let key = operator.api_key.as_ref().ok_or(OpenError::NoKey)?;
        let client = anthropic(operator, key.value.clone())?;
        Ok(Self::configured_with(operator)?.anthropic_client(client))
    }

    /// As [`Builder::configured`], without a provider: for commands that only look, and for other providers.
    ///
    /// # Errors
    /// When a redaction pattern cannot be used.
    pub fn configured_with(operator: &OperatorConfig) -> Result<Self, OpenError> {
        let killed = operator
            .kill_switch
            .value
            .then(|| format!("by {}", operator.kill_switch.origin));
        let builder = Self::new()
            .enabled(operator.enabled.value)
            .killed(killed.as_deref())
            .retention(operator.retention.value)
            .artifact_bytes_max(operator.artifact_bytes_max.value)
            .context_memory(usize::try_from(operator.context_memory.value).unwrap_or(usize::MAX))
            .context_disk(operator.context_disk.value)
            .transcript_messages(operator.transcript_messages.value);
        // Naming a directory is the operator's word; what stands at the default place may have come with the
        // project.
        let state_dir = &operator.state_dir.value;
        let builder = match &operator.user_state_dir {
            Some(dir) => builder.user_state_dir(dir),
            None => builder,
        };
        let builder = bounded(builder, &operator.retention_count, Self::retention_count);
        let builder = bounded(builder, &operator.retention_size, Self::retention_size);
        let builder = bounded(builder, &operator.audit_retention, Self::audit_retention);
        let builder = bounded(
            builder,
            &operator.audit_retention_count,
            Self::audit_retention_count,
        );
        let builder = if operator.has_default_state_dir() {
            builder.state_dir_in_project(state_dir)
        } else {
            builder.state_dir(state_dir)
        };
        let builder = builder
            .ask_person(operator.ask_person.value.clone())
            .ceilings(ceilings(operator))
            .audit_mode(operator.audit.value)
            .tool_policy(operator.allowed_tools(), operator.tool_policies())
            .configuration(in_force(operator))
            .redactor(redactor(operator)?);
        Ok(builder)
    }
}

/// Sets a bound, if there is one.
fn bounded<T: Copy>(
    builder: Builder,
    bound: &Setting<Option<T>>,
    set: impl FnOnce(Builder, T) -> Builder,
) -> Builder {
    match bound.value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

/// Every effective value with its origin, for the audit log.
pub(crate) fn in_force(operator: &OperatorConfig) -> Vec<(String, String)> {
    let explanations = operator.explanations().iter();
    explanations
        .map(|told| {
            (
                told.key.clone(),
                format!("{} ({})", told.value, told.origin),
            )
        })
        .collect()
}

/// The ceilings of the operator, as the engine takes them.
pub(crate) fn ceilings(operator: &OperatorConfig) -> Ceilings {
    Ceilings {
        daily_cost: operator.daily_cost.clone(),
        session: operator.session_ceilings.clone(),
        agents: operator.agent_ceilings.clone().into_iter().collect(),
        workflow: operator.workflow_ceilings.clone(),
        invocation: operator.ceilings.clone(),
        shared: operator.shared_budgets.value.clone(),
    }
}

/// The price table in force: the built-in one with the operator's models added or in their place.
#[must_use]
pub fn prices(operator: &OperatorConfig) -> PriceTable {
    let built_in = otto_anthropic::price_table();
    if operator.prices.value.is_empty() {
        return built_in;
    }
    let version = format!("{} + {}", built_in.version, operator.prices.origin);
    let models = built_in
        .models()
        .map(|model| (**model).clone())
        .chain(operator.prices.value.iter().cloned());
    PriceTable::new(&version, models)
}

/// What masks secrets: the built-in patterns, the operator's, and the credentials that Otto holds.
///
/// # Errors
/// When a pattern of the operator cannot be used.
pub fn redactor(operator: &OperatorConfig) -> Result<Redactor, OpenError> {
    let secret = |name: &str, value: &SecretString| ExactSecret {
        name: name.to_owned(),
        value: value.expose_secret().to_owned(),
    };
    let known = [
        ("provider-key", &operator.api_key),
        ("server-token", &operator.server_token),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, setting)| Some(secret(name, &setting.as_ref()?.value)));
    let headers = operator.http_headers.value.iter();
    let secrets = known.chain(headers.map(|header| secret("http-header", &header.value)));
    let config = RedactionConfig {
        patterns: operator.redact.value.clone(),
        secrets: secrets.collect(),
    };
    Ok(Redactor::new(&config)?)
}

fn anthropic(operator: &OperatorConfig, key: SecretString) -> Result<AnthropicClient, OpenError> {
    let mut config = AnthropicConfig::new(key);
    config.base_url = operator
        .endpoint
        .value
        .parse()
        .map_err(|_| OpenError::Endpoint {
            endpoint: operator.endpoint.value.clone(),
            origin: operator.endpoint.origin.clone(),
        })?;
    config.prices = Some(Arc::new(prices(operator)));
    Ok(AnthropicClient::new(config)?)
}
