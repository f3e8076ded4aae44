//! `otto usage --by tool`: what the answers to each tool's results cost.

use std::collections::BTreeMap;

use otto::text::visible;
use otto::tool_usage::{ToolUsage, add_invocation};
use otto::{Otto, UsageGroup, UsageQuery};
use serde_json::json;

use super::csv;
use crate::error::Failure;
use crate::output::{self, Out, Table, To, show_money};

/// Reads the journals of all invocations that the query finds.
pub(super) async fn sums(
    otto: &Otto,
    query: &UsageQuery,
) -> Result<BTreeMap<String, ToolUsage>, Failure> {
    let mut sums = BTreeMap::new();
    for row in otto.usage(query.clone()).await?.rows {
        let id = row.key.get(&UsageGroup::Invocation);
        let Some(invocation) = id.and_then(|id| id.parse().ok()) else {
            continue;
        };
        let lines = otto.journal(invocation).await?;
        add_invocation(&mut sums, &lines, row.cost);
    }
    Ok(sums)
}

pub(super) fn show(out: &mut Out, sums: &BTreeMap<String, ToolUsage>, as_csv: bool) {
    if as_csv {
        csv::record(
            out,
            &["tool", "tool_calls", "charged_usd"].map(str::to_owned),
        );
        for (tool, used) in sums {
            let fields = [
                tool.clone(),
                used.tool_calls.to_string(),
                csv::dollars(used.cost),
            ];
            csv::record(out, &fields);
        }
        return;
    }
    if out.is_json() {
        for (tool, used) in sums {
            out.json(&json!({
                "tool": tool,
                "tool_calls": used.tool_calls,
                "charged": output::money_json(used.cost),
            }));
        }
        return;
    }
    if sums.is_empty() {
        out.line(To::Progress, "nothing was used yet");
        return;
    }
    let mut table = Table::new(["tool", ">calls of it", ">charged for answering it"]);
    for (tool, used) in sums {
        table.row([
            visible(tool).into_owned(),
            used.tool_calls.to_string(),
            show_money(used.cost),
        ]);
    }
    let text = table.render();
    out.write(To::Answer, &text);
    out.line(
        To::Answer,
        "a model call counts for the tools whose results it answers, in equal parts",
    );
}
