//! `otto usage`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use otto::core::ledger::{Account, Scope};
use otto::limits;
use otto::text::visible;
use otto::{
    AgentName, Money, SessionId, StoreError, Timestamp, Usage as Tokens, UsageGroup, UsageQuery,
    UsageSum, WorkflowId,
};
use serde_json::{Value, json};

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{self, Table, To, show_money, show_tokens};

/// Arguments of `otto usage`.
#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// What to add up by; several with commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "COLUMN",
        default_value = "day,agent,model"
    )]
    by: Vec<Column>,
    /// Only this agent
    #[arg(long)]
    agent: Option<AgentName>,
    /// Only this session
    #[arg(long)]
    session: Option<SessionId>,
    /// Only this workflow
    #[arg(long)]
    workflow: Option<WorkflowId>,
    /// Only what was used within this time, such as `24h` or `7d`
    #[arg(long, value_name = "TIME", value_parser = |text: &str| limits::parse_duration(text))]
    last: Option<Duration>,
}

/// What to add up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Column {
    Day,
    Agent,
    Model,
    Session,
    Workflow,
    Invocation,
}

impl Column {
    const fn group(self) -> UsageGroup {
        match self {
            Self::Day => UsageGroup::Day,
            Self::Agent => UsageGroup::Agent,
            Self::Model => UsageGroup::Model,
            Self::Session => UsageGroup::Session,
            Self::Workflow => UsageGroup::Workflow,
            Self::Invocation => UsageGroup::Invocation,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Session => "session",
            Self::Workflow => "workflow",
            Self::Invocation => "invocation",
        }
    }
}

impl Usage {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let query = UsageQuery {
            from: self
                .last
                .map(|last| {
                    now().map(|now| {
                        Timestamp::from_micros(
                            now.since(Timestamp::EPOCH)
                                .saturating_sub(last)
                                .as_micros()
                                .try_into()
                                .unwrap_or(u64::MAX),
                        )
                    })
                })
                .transpose()?,
            to: None,
            agent: self.agent.clone(),
            session: self.session,
            workflow: self.workflow,
            invocation: None,
            group_by: self.by.iter().map(|column| column.group()).collect(),
        };
        let found = context.runtime()?.block_on(async {
            let Some(otto) = open::to_look(&operator).await? else {
                return Ok(None);
            };
            let found = async {
                let rows = otto.usage(query).await?.rows;
                let tracker = otto.engine().cost_tracker();
                let today = tracker.account(Scope::Day(tracker.today().await?)).await?;
                Ok::<_, StoreError>((rows, today))
            };
            let found = found.await;
            open::close(otto).await;
            Ok::<_, Failure>(Some(found?))
        })?;
        let (rows, today) = found.unwrap_or_default();
        if context.out.is_json() {
            for row in &rows {
                context.out.json(&self.describe(row));
            }
            return Ok(Code::Completed);
        }
        if rows.is_empty() {
            context.out.line(To::Progress, "nothing was used yet");
        } else {
            let text = self.table(&rows);
            context.out.write(To::Answer, &text);
        }
        let line = day_line(
            &today,
            operator.daily_cost.value,
            &operator.daily_cost.origin.0,
        );
        context.out.line(To::Answer, &line);
        Ok(Code::Completed)
    }

    fn describe(&self, row: &UsageSum) -> Value {
        let mut value = json!({
            "calls": row.calls,
            "unconfirmed_calls": row.unconfirmed_calls,
            "usage": output::usage(&row.usage),
            "charged": output::money_json(row.cost),
        });
        for column in &self.by {
            value[column.name()] = row.key.get(&column.group()).cloned().into();
        }
        value
    }

    fn table(&self, rows: &[UsageSum]) -> String {
        // The number of columns depends on the question, so the cells of the key are joined into one.
        let heading = self
            .by
            .iter()
            .map(|column| column.name())
            .collect::<Vec<_>>()
            .join(" | ");
        let mut table = Table::new([
            heading.as_str(),
            ">calls",
            ">input",
            ">cache read",
            ">cache write",
            ">output",
            ">charged",
        ]);
        let mut total = UsageSum {
            key: std::collections::BTreeMap::new(),
            calls: 0,
            unconfirmed_calls: 0,
            usage: Tokens::default(),
            cost: Money::ZERO,
        };
        for row in rows {
            let key: Vec<String> = self
                .by
                .iter()
                .map(|column| {
                    row.key
                        .get(&column.group())
                        .map_or_else(String::new, |text| visible(text).into_owned())
                })
                .collect();
            table.row(cells(key.join(" | "), row));
            total.calls += row.calls;
            total.unconfirmed_calls += row.unconfirmed_calls;
            total.usage = total.usage.plus(&row.usage);
            total.cost = total.cost.saturating_add(row.cost);
        }
        if rows.len() > 1 {
            table.row(cells("total".to_owned(), &total));
        }
        let mut text = table.render();
        if total.unconfirmed_calls > 0 {
            text.push_str(&format!(
                "  {} of these calls were charged in full because no usage record came\n",
                total.unconfirmed_calls
            ));
        }
        text
    }
}

fn cells(key: String, row: &UsageSum) -> [String; 7] {
    let writes = row
        .usage
        .cache_write_5m_tokens
        .saturating_add(row.usage.cache_write_1h_tokens);
    [
        key,
        row.calls.to_string(),
        show_tokens(row.usage.input_tokens),
        show_tokens(row.usage.cache_read_tokens),
        show_tokens(writes),
        show_tokens(row.usage.output_tokens),
        show_money(row.cost),
    ]
}

fn day_line(today: &Account, ceiling: Money, origin: &str) -> String {
    let held = if today.held_cost > Money::ZERO {
        format!(", {} held", show_money(today.held_cost))
    } else {
        String::new()
    };
    let latched = if today.latched {
        "; shut, because a provider billed more than was held"
    } else {
        ""
    };
    format!(
        "\ntoday: {} of {ceiling} spent{held} (ceiling set by {}){latched}",
        show_money(today.spent_cost),
        visible(origin)
    )
}

fn now() -> Result<Timestamp, Failure> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|error| Failure::doing("read the clock", &error))?;
    Ok(Timestamp::EPOCH.after(since))
}
