//! `otto resume SESSION`

use clap::{Args, ValueEnum};
use otto::core::invocation::UnknownCallDecision;
use otto::{InvocationQuery, Listening, ResumeOptions, SessionId};

use crate::Performed;
use crate::commands::run::{Limits, announce, find};
use crate::commands::watch;
use crate::context::Context;
use crate::error::Failure;
use crate::open;
use crate::output::Live;

/// Arguments of `otto resume`.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The session, as `otto sessions` lists it
    session: SessionId,
    /// What to do with a tool call that was running when Otto ended and may not simply be repeated
    #[arg(long, value_enum, value_name = "DECISION")]
    unknown_call: Option<UnknownCall>,
    #[command(flatten)]
    raised: Limits,
}

/// A person's word on a call of unknown outcome.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum UnknownCall {
    /// Run it again.
    RunAgain,
    /// Do not; tell the model that its outcome is unknown.
    TellModel,
}

impl Resume {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        open::check_enabled(&operator)?;
        let agents = context.agents(&operator)?;
        let runtime = context.runtime()?;
        runtime.block_on(async {
            let otto = open::to_run(context, &operator, &agents).await?;
            let query = InvocationQuery {
                session: Some(self.session),
                ..InvocationQuery::default()
            };
            let records = otto.invocations(query).await?;
            let record = records
                .iter()
                .find(|record| record.outcome.is_none() || record.resumable)
                .or(records.first());
            let Some(record) = record else {
                return Err(
                    Failure::usage(format!("there is no session {}", self.session))
                        .hint("`otto sessions` lists them"),
                );
            };
            let agent = find(&agents, record.agent.as_str())?;
            let raise = self.raised.budgets();
            let budgets = raise.or(&agent.budgets).narrowed_by(&operator.ceilings);
            announce(&mut context.out, &agent, &budgets, &operator);
            let decision = self.unknown_call.map(|decision| match decision {
                UnknownCall::RunAgain => UnknownCallDecision::RunAgain,
                UnknownCall::TellModel => UnknownCallDecision::TellModel,
            });
            let resumed = async {
                let options = ResumeOptions {
                    listening: Listening::On,
                    raise,
                    decision,
                };
                let handle = otto.resume(self.session, options).await?;
                watch::watch(
                    &mut context.out,
                    &otto,
                    handle,
                    &agent,
                    &budgets,
                    Live::split(),
                )
                .await
            };
            let report = resumed.await;
            open::close(otto).await;
            Ok(watch::conclude_with_next(
                &mut context.out,
                &report?,
                &budgets,
            ))
        })
    }
}
