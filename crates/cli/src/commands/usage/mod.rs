//! `otto usage`: what was spent, added up, exported, and compared with the provider's own account.

mod by_tool;
mod nothing;
mod reconcile;
mod time;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use otto::config::OperatorConfig;
use otto::core::ledger::{Account, Scope};
use otto::limits;
use otto::text::visible;
use otto::usage_csv;
use otto::{
    AgentName, Limit, Money, Otto, SessionId, StoreError, Timestamp, Usage as Tokens, UsageGroup,
    UsageQuery, UsageSum, WorkflowId,
};
use serde_json::{Value, json};

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{self, Out, Table, To, show_money, show_tokens};

/// Arguments of `otto usage`.
#[derive(Debug, Args)]
#[command(after_help = reconcile::HELP)]
pub(crate) struct Usage {
    /// What to add up by; several with commas, `tool` alone
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
    /// Only from this time on: a date in UTC such as `2026-11-01`, or a time such as `2026-11-01T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = time::parse, conflicts_with = "last")]
    from: Option<Timestamp>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    to: Option<Timestamp>,
    /// Print a CSV table with exact amounts
    #[arg(long, conflicts_with_all = ["json", "reconcile"])]
    csv: bool,
    /// Compare with the provider's usage export, by day and model; exit code 1 where they differ by more than
    /// unconfirmed calls explain
    #[arg(long, value_name = "FILE", conflicts_with_all = ["by", "agent", "session", "workflow"])]
    reconcile: Option<PathBuf>,
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
    /// The tools whose results a model call answered.
    Tool,
}

impl Column {
    /// `None`: it is no column of the ledger.
    const fn group(self) -> Option<UsageGroup> {
        Some(match self {
            Self::Day => UsageGroup::Day,
            Self::Agent => UsageGroup::Agent,
            Self::Model => UsageGroup::Model,
            Self::Session => UsageGroup::Session,
            Self::Workflow => UsageGroup::Workflow,
            Self::Invocation => UsageGroup::Invocation,
            Self::Tool => return None,
        })
    }

    fn name(self) -> &'static str {
        self.group().map_or("tool", UsageGroup::as_str)
    }

    fn of(self, row: &UsageSum) -> Option<&String> {
        self.group().and_then(|group| row.key.get(&group))
    }
}

/// What is left of today.
#[derive(Debug, Default)]
struct Today {
    /// Of this state directory.
    account: Account,
    /// Of this user, in all projects.
    of_user: Option<(Money, Limit<Money>)>,
}

impl Usage {
    pub(crate) fn perform(mut self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        if let Some(last) = self.last {
            self.from = Some(time::before_now(last)?);
        }
        if self.by.contains(&Column::Tool) && self.by.len() > 1 {
            return Err(Failure::usage(
                "`--by tool` stands alone: what a tool cost is read from the journals, the rest from the ledger",
            ));
        }
        if self.query(Vec::new()).is_backwards() {
            return Err(Failure::usage(
                "the time asked for begins (`--from`, or `--last` before now) after it ends (`--to`): expected a beginning before the end",
            ));
        }
        let runtime = context.runtime()?;
        runtime.block_on(async {
            let Some(otto) = open::to_look(&operator).await? else {
                return self.nothing(&mut context.out, &operator).await;
            };
            let performed = self.show(&otto, &mut context.out, &operator).await;
            open::close(otto).await;
            performed
        })
    }

    async fn nothing(&self, out: &mut Out, operator: &OperatorConfig) -> Performed {
        if let Some(file) = &self.reconcile {
            return reconcile::show(out, file, &[], &otto::prices(operator));
        }
        out.line(To::Progress, &nothing::why(self, None).await?);
        if self.csv {
            out.write(To::Answer, &usage_csv::sums(&self.groups(), &[]));
        } else if !out.is_json() {
            let today = day_lines(&Today::default(), operator);
            out.line(To::Answer, &today);
        }
        Ok(Code::Completed)
    }

    async fn show(&self, otto: &Otto, out: &mut Out, operator: &OperatorConfig) -> Performed {
        if let Some(file) = &self.reconcile {
            let groups = vec![UsageGroup::Day, UsageGroup::Model];
            let rows = otto.usage(self.query(groups)).await?.rows;
            return reconcile::show(out, file, &rows, otto.prices());
        }
        if self.by.contains(&Column::Tool) {
            let sums = otto.usage_by_tool(self.query(Vec::new())).await?;
            if sums.is_empty() {
                out.line(To::Progress, &nothing::why(self, Some(otto)).await?);
            }
            by_tool::show(out, &sums, self.csv);
            return Ok(Code::Completed);
        }
        let rows = otto.usage(self.query(self.groups())).await?.rows;
        if rows.is_empty() {
            out.line(To::Progress, &nothing::why(self, Some(otto)).await?);
        }
        if self.csv {
            out.write(To::Answer, &usage_csv::sums(&self.groups(), &rows));
            return Ok(Code::Completed);
        }
        if out.is_json() {
            for row in &rows {
                out.json(&self.describe(row));
            }
            return Ok(Code::Completed);
        }
        if !rows.is_empty() {
            let text = self.table(&rows);
            out.write(To::Answer, &text);
        }
        let today = day_lines(&today(otto).await?, operator);
        out.line(To::Answer, &today);
        Ok(Code::Completed)
    }

    fn groups(&self) -> Vec<UsageGroup> {
        self.by.iter().filter_map(|column| column.group()).collect()
    }

    fn query(&self, group_by: Vec<UsageGroup>) -> UsageQuery {
        UsageQuery {
            from: self.from,
            to: self.to,
            agent: self.agent.clone(),
            session: self.session,
            workflow: self.workflow,
            invocation: None,
            group_by,
        }
    }

    fn describe(&self, row: &UsageSum) -> Value {
        let mut value = json!({
            "calls": row.calls,
            "unconfirmed_calls": row.unconfirmed_calls,
            "usage": output::usage(&row.usage),
            "charged": output::money_json(row.cost),
            "charged_unconfirmed": output::money_json(row.unconfirmed_cost),
        });
        for column in &self.by {
            value[column.name()] = column.of(row).cloned().into();
        }
        value
    }

    fn table(&self, rows: &[UsageSum]) -> String {
        let mut total = UsageSum {
            key: std::collections::BTreeMap::new(),
            calls: 0,
            unconfirmed_calls: 0,
            usage: Tokens::default(),
            cost: Money::ZERO,
            unconfirmed_cost: Money::ZERO,
        };
        for row in rows {
            total.calls += row.calls;
            total.unconfirmed_calls += row.unconfirmed_calls;
            total.usage = total.usage.plus(&row.usage);
            total.cost = total.cost.saturating_add(row.cost);
            total.unconfirmed_cost = total.unconfirmed_cost.saturating_add(row.unconfirmed_cost);
        }
        // A column for what this provider reports only of some models.
        let thinks = total.usage.thinking_tokens > 0;
        // The number of columns depends on the question, so the cells of the key are joined into one.
        let heading = self
            .by
            .iter()
            .map(|column| column.name())
            .collect::<Vec<_>>()
            .join(" | ");
        let mut headings = vec![
            heading.as_str(),
            ">calls",
            ">input",
            ">cache read",
            ">cache write",
            ">output",
        ];
        headings.extend(thinks.then_some(">of it thinking"));
        headings.push(">charged");
        let mut table = Table::new(headings);
        for row in rows {
            let key: Vec<String> = self
                .by
                .iter()
                .map(|column| {
                    column
                        .of(row)
                        .map_or_else(String::new, |text| visible(text).into_owned())
                })
                .collect();
            table.row(cells(key.join(" | "), row, thinks));
        }
        if rows.len() > 1 {
            table.row(cells("total".to_owned(), &total, thinks));
        }
        let mut text = table.render();
        if total.unconfirmed_calls > 0 {
            text.push_str(&format!(
                "  {} of these calls, {} together, were charged in full because no usage record came\n",
                total.unconfirmed_calls,
                show_money(total.unconfirmed_cost),
            ));
        }
        text
    }
}

fn cells(key: String, row: &UsageSum, thinks: bool) -> Vec<String> {
    let writes = row
        .usage
        .cache_write_5m_tokens
        .saturating_add(row.usage.cache_write_1h_tokens);
    let mut cells = vec![
        key,
        row.calls.to_string(),
        show_tokens(row.usage.input_tokens),
        show_tokens(row.usage.cache_read_tokens),
        show_tokens(writes),
        show_tokens(row.usage.output_tokens),
    ];
    cells.extend(thinks.then(|| show_tokens(row.usage.thinking_tokens)));
    cells.push(show_money(row.cost));
    cells
}

async fn today(otto: &Otto) -> Result<Today, StoreError> {
    let tracker = otto.engine().cost_tracker();
    Ok(Today {
        account: tracker.account(Scope::Day(tracker.today().await?)).await?,
        of_user: otto.day_of_user().await?,
    })
}

fn day_lines(today: &Today, operator: &OperatorConfig) -> String {
    let Today { account, of_user } = today;
    let held = if account.held_cost > Money::ZERO {
        format!(", {} held", show_money(account.held_cost))
    } else {
        String::new()
    };
    let latched = if account.latched {
        "; shut, because a provider billed more than was held"
    } else {
        ""
    };
    let mut lines = format!(
        "\ntoday: {} of {} spent{held} (ceiling set by {}){latched}",
        show_money(account.spent_cost),
        operator.daily_cost.value,
        visible(&operator.daily_cost.origin.0)
    );
    if let Some((spent, ceiling)) = of_user {
        lines.push_str(&format!(
            "\nall projects of this user: {} of {} spent or held",
            show_money(*spent),
            ceiling.value
        ));
    }
    lines
}
