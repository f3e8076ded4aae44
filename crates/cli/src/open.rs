//! Opening an Otto: to run agents, or only to look at what is stored.

use std::sync::Arc;
use std::time::Duration;

use otto::config::OperatorConfig;
use otto::core::invocation::{Billing, ModelFailure, ModelFailureKind};
use otto::core::port::llm_client::{ModelCall, ModelEvent, ModelStream};
use otto::load::Agents;
use otto::otlp::OtlpConfig;
use otto::{Builder, Child, Condition, InvokeError, LlmClient, Otto, PriceTable, WorkerHost};

use crate::context::Context;
use crate::error::{Code, Failure};

/// How long running invocations get to reach their next durable point when Otto shuts down: longer than the
/// two seconds that tools get to end.
pub(crate) const SHUTDOWN_BOUND: Duration = Duration::from_secs(5);

/// How long the proof of the sandbox leaves the processors to whatever leads to the first model call. Nothing
/// depends on its length.
const HEAD_START: Duration = Duration::from_millis(15);

/// Refuses early, with the reason, when agents may not run.
pub(crate) fn check_enabled(operator: &OperatorConfig) -> Result<(), Failure> {
    if operator.kill_switch.value {
        let origin = &operator.kill_switch.origin;
        return Err(Failure::new(
            Code::Refused,
            format!("the kill switch is thrown, by {origin}"),
        )
        .hint("what is stored stays readable; unset OTTO_KILL_SWITCH to go on"));
    }
    if !operator.enabled.value {
        return Err(InvokeError::NotEnabled.into());
    }
    Ok(())
}

/// Opens an Otto that runs these agents with the operator's provider.
pub(crate) async fn to_run(
    context: &Context,
    operator: &OperatorConfig,
    agents: &Agents,
) -> Result<Otto, Failure> {
    with_agents(Builder::configured(operator)?, context, operator, agents).await
}

/// Opens an Otto that serves these agents, with the host of its tools. Where agents may not run it needs no key:
/// what is stored can be looked at all the same.
pub(crate) async fn to_serve(
    context: &Context,
    operator: &OperatorConfig,
    agents: &Agents,
) -> Result<(Otto, WorkerHost), Failure> {
    let builder = if operator.enabled.value && !operator.kill_switch.value {
        Builder::configured(operator)?
    } else {
        Builder::configured_with(operator)?.client(Arc::new(NoProvider::new(operator)))
    };
    with_host(builder, context, operator, agents).await
}

/// Opens an Otto that runs these agents, from a builder that has its provider.
pub(crate) async fn with_agents(
    builder: Builder,
    context: &Context,
    operator: &OperatorConfig,
    agents: &Agents,
) -> Result<Otto, Failure> {
    let (otto, _) = with_host(builder, context, operator, agents).await?;
    Ok(otto)
}

async fn with_host(
    builder: Builder,
    context: &Context,
    operator: &OperatorConfig,
    agents: &Agents,
) -> Result<(Otto, WorkerHost), Failure> {
    let host = otto::worker_host(&context.booted, operator, &operator.state_dir.value);
    let configs = agents.iter().map(|agent| (*agent.config).clone());
    let builder = match OtlpConfig::from_environment(&context.environment) {
        Ok(Some(config)) => builder.otlp(config),
        Ok(None) => builder,
        Err(error) => return Err(Failure::usage(error.to_string())),
    };
    let otto = builder
        .base_tools(Arc::new(host.clone()))
        .agents(configs)
        .open()
        .await?;
    // The sandbox proves itself while the first model call is under way; a tool that comes earlier begins the proof. A
    // refusal is told by the first tool.
    let engine = otto.engine().clone();
    let prover = host.clone();
    let proof = Child::once("sandbox_proof", async move {
        tokio::time::sleep(HEAD_START).await;
        match prover.prove().await {
            Ok(level) => engine.report_sandbox(level.as_str(), Condition::Ready),
            Err(refusal) => {
                let reason = format!("no tool can run: {}", refusal.message);
                engine.report_sandbox("none", Condition::not_ready(&reason));
            }
        }
    });
    otto.engine().supervisor().start(proof);
    Ok((otto, host))
}

/// Opens what is stored. `None`: nothing was ever stored here, and looking creates nothing.
pub(crate) async fn to_look(operator: &OperatorConfig) -> Result<Option<Otto>, Failure> {
    if !operator.state_dir.value.exists() {
        return Ok(None);
    }
    Ok(Some(to_write(operator).await?))
}

/// Opens the store without a provider, creating it if need be.
pub(crate) async fn to_write(operator: &OperatorConfig) -> Result<Otto, Failure> {
    Ok(without_provider(operator)?.open().await?)
}

/// Opens an Otto that knows agents and tools and runs neither. Where nothing was ever stored, nothing is created.
pub(crate) async fn to_plan(
    context: &Context,
    operator: &OperatorConfig,
    agents: &Agents,
) -> Result<Otto, Failure> {
    let host = otto::worker_host(&context.booted, operator, &operator.state_dir.value);
    let builder = without_provider(operator)?
        .base_tools(Arc::new(host))
        .agents(agents.iter().map(|agent| (*agent.config).clone()));
    let builder = if operator.state_dir.value.exists() {
        builder
    } else {
        builder.in_memory()
    };
    Ok(builder.open().await?)
}

fn without_provider(operator: &OperatorConfig) -> Result<Builder, Failure> {
    Ok(Builder::configured_with(operator)?.client(Arc::new(NoProvider::new(operator))))
}

/// Ends an Otto in an orderly way.
pub(crate) async fn close(otto: Otto) {
    otto.shutdown(SHUTDOWN_BOUND).await;
}

/// Stands in for a provider where none is needed.
struct NoProvider {
    prices: Arc<PriceTable>,
}

impl NoProvider {
    fn new(operator: &OperatorConfig) -> Self {
        Self {
            prices: Arc::new(otto::prices(operator)),
        }
    }
}

impl LlmClient for NoProvider {
    fn prices(&self) -> Arc<PriceTable> {
        Arc::clone(&self.prices)
    }

    fn call(&self, _: ModelCall) -> ModelStream {
        let failure = ModelFailure {
            kind: ModelFailureKind::Authentication,
            message: Arc::from("this command calls no model"),
            billing: Billing::NotBilled,
            retry_after: None,
            should_retry: Some(false),
            status: None,
            request_id: None,
        };
        Box::pin(futures_util::stream::iter([ModelEvent::Failed(failure)]))
    }
}
