//! `otto usage --by tool`: what the answers to each tool's results cost.

use std::collections::BTreeMap;

use otto::text::visible;
use otto::tool_usage::ToolUsage;
use otto::usage_csv;
use serde_json::json;

use crate::output::{self, Out, Table, To, show_money};

pub(super) fn show(out: &mut Out, sums: &BTreeMap<String, ToolUsage>, as_csv: bool) {
    if as_csv {
        out.write(To::Answer, &usage_csv::tools(sums));
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
