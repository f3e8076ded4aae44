//! `otto resume SESSION`

use clap::{Args, ValueEnum};
use otto::core::invocation::UnknownCallDecision;
use otto::limits;
use otto::{Budgets, InvocationRecord, Limit, Listening, Otto, ResumeOptions, SessionId};

use crate::Performed;
use crate::commands::named::{self, Named};
use crate::commands::run::{announce, find, tell_cut};
use crate::commands::watch;
use crate::context::Context;
use crate::error::Failure;
use crate::lock;
use crate::open;

/// Arguments of `otto resume`.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The session, as `otto sessions` lists it
    session: SessionId,
    /// A new limit in place of the agent's, such as `cost=1.00`, `tokens=500k`, `time=10m` or `turns=80`; the
    /// operator's ceilings stay above it
    #[arg(long, value_name = "LIMIT=VALUE", value_parser = parse_raise)]
    raise: Vec<Raise>,
    /// What became of the tool calls that were running when Otto ended; `otto show` lists them
    #[arg(long, value_enum, value_name = "DECISION")]
    decide: Option<Decision>,
}

/// A person's word on calls of unknown outcome.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Decision {
    /// They took effect; they are not run again
    Done,
    /// They took no effect; the model may ask again
    NotDone,
    /// Run them again
    Retry,
    /// Nobody knows; the model is told so
    Unknown,
}

impl Decision {
    const fn word(self) -> UnknownCallDecision {
        match self {
            Self::Done => UnknownCallDecision::Done,
            Self::NotDone => UnknownCallDecision::NotDone,
            Self::Retry => UnknownCallDecision::RunAgain,
            Self::Unknown => UnknownCallDecision::TellModel,
        }
    }
}

/// One raised limit.
#[derive(Debug, Clone)]
struct Raise(Budgets);

/// Where a raised limit says it was set.
const RAISED_BY: &str = "--raise";

fn parse_raise(text: &str) -> Result<Raise, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected LIMIT=VALUE, such as `cost=1.00`")?;
    let invalid = |error: limits::InvalidLimit| error.to_string();
    let mut budgets = Budgets::default();
    match name {
        "cost" => {
            let cost = limits::parse_money(value).map_err(invalid)?;
            budgets.cost = Some(Limit::new(cost, RAISED_BY));
        }
        "tokens" => {
            let tokens = limits::parse_count(value).map_err(invalid)?;
            budgets.tokens = Some(Limit::new(tokens, RAISED_BY));
        }
        "time" => {
            let time = limits::parse_duration(value).map_err(invalid)?;
            budgets.time = Some(Limit::new(time, RAISED_BY));
        }
        "turns" => {
            let turns = limits::parse_turns(value).map_err(invalid)?;
            budgets.turns = Some(Limit::new(turns, RAISED_BY));
        }
        other => {
            let other = otto::text::visible_start(other, 40);
            return Err(format!(
                "there is no limit `{other}`: expected `cost`, `tokens`, `time` or `turns`"
            ));
        }
    }
    Ok(Raise(budgets))
}

impl Resume {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        open::check_enabled(&operator)?;
        let agents = context.agents(&operator)?;
        let runtime = lock::locked_runtime(context, &operator)?;
        runtime.block_on(async {
            let otto = open::to_run(context, &operator, &agents).await?;
            let record = self.record(&otto).await?;
            let agent = find(&agents, record.agent.as_str())?;
            // The last word on a limit counts.
            let raise = self
                .raise
                .iter()
                .rev()
                .fold(Budgets::default(), |all, Raise(one)| all.or(one));
            let before = otto.engine().limits_of(record.invocation).await?;
            let budgets = raise.or(&before).narrowed_by(&operator.ceilings);
            announce(&mut context.out, &agent, &budgets, &operator);
            let cut = otto::not_granted(&raise, &budgets);
            tell_cut(&mut context.out, &cut);
            let decision = self.decide.map(Decision::word);
            let options = ResumeOptions {
                listening: Listening::On,
                raise,
                decision,
            };
            let begun = otto.resume(record.session, options).await;
            let begun = begun.map_err(Failure::from);
            watch::to_the_end(&mut context.out, otto, begun, &agent, &budgets, &cut).await
        })
    }

    /// The invocation that is to be taken up: the newest of the session that can be. The id of that invocation itself
    /// means the same.
    async fn record(&self, otto: &Otto) -> Result<InvocationRecord, Failure> {
        let (asked, records) = match named::find(otto, &self.session.to_string()).await? {
            Named::Session(records) => (None, records),
            Named::Invocation(record) => {
                let records = named::in_session(otto, record.session).await?;
                (Some(*record), records)
            }
        };
        let can_resume = |record: &&InvocationRecord| record.outcome.is_none() || record.resumable;
        let newest = records.iter().find(can_resume).or(records.first()).cloned();
        match (asked, newest) {
            (Some(asked), Some(newest)) if newest.invocation != asked.invocation => {
                let failure = named::belongs_to(self.session, asked.session);
                Err(failure.hint(format!(
                    "`otto resume {}` takes up what is newest there, invocation {}",
                    asked.session, newest.invocation
                )))
            }
            (_, Some(newest)) => Ok(newest),
            (_, None) => Err(named::unknown(&self.session.to_string())),
        }
    }
}
