//! `otto usage --reconcile FILE`: Otto's account beside the provider's.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use otto::reconcile::{Compared, reconcile_text};
use otto::text::visible;
use otto::{ExportForm, Money, PriceTable, UsageSum};
use serde_json::json;

use crate::Performed;
use crate::error::{Code, Failure};
use crate::output::{self, Out, Table, To, show_money};

/// What the help says of FILE.
pub(super) const HELP: &str = "\
FILE for --reconcile is one of:
  JSON of the Usage and Cost API: usage_report/messages (grouped by model), or cost_report (grouped by
    description); several pages as one JSON array
  CSV with a header: a date (day, date, usage_date_utc), a model (model, model_version), and tokens
    (input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, or the
    names of the console's export) or money (charged_usd, cost_usd, amount_usd)";

/// BOUND: bytes of an export.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

pub(super) fn show(out: &mut Out, file: &Path, own: &[UsageSum], prices: &PriceTable) -> Performed {
    let shown = visible(&file.to_string_lossy()).into_owned();
    let text = read(file)
        .map_err(|error| Failure::usage(format!("read the export `{shown}`: {error}")))?;
    let compared = reconcile_text(own, &text, ExportForm::of(&text), prices)
        .map_err(|error| Failure::usage(format!("read the export `{shown}`: {error}")))?;
    let drifts = compared
        .iter()
        .filter(|row| row.standing.is_drift())
        .count();
    if out.is_json() {
        for row in &compared {
            out.json(&describe(row));
        }
    } else {
        print(out, &compared, drifts);
    }
    Ok(if drifts == 0 {
        Code::Completed
    } else {
        Code::Other
    })
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = File::open(file)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!(
            "it is longer than {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(text)
}

/// The difference to what Otto charged for calls with a usage record: `+$0.10`, `-$0.10`, `0`.
fn drift(row: &Compared) -> String {
    if row.provider >= row.confirmed {
        match row.provider.saturating_sub(row.confirmed) {
            Money::ZERO => "0".to_owned(),
            more => format!("+{}", show_money(more)),
        }
    } else {
        format!(
            "-{}",
            show_money(row.confirmed.saturating_sub(row.provider))
        )
    }
}

fn describe(row: &Compared) -> serde_json::Value {
    json!({
        "day": row.day,
        "model": row.model,
        "calls": row.calls,
        "unconfirmed_calls": row.unconfirmed_calls,
        "confirmed": output::money_json(row.confirmed),
        "unconfirmed": output::money_json(row.unconfirmed),
        "provider": output::money_json(row.provider),
        "drift_picodollars": row.drift_picodollars(),
        "standing": row.standing.as_str(),
    })
}

fn print(out: &mut Out, compared: &[Compared], drifts: usize) {
    if compared.is_empty() {
        out.line(To::Progress, "the export has no row, and nothing was used");
        return;
    }
    let mut table = Table::new([
        "day",
        "model",
        ">calls",
        ">charged",
        ">unconfirmed",
        ">provider",
        ">drift",
        "",
    ]);
    for row in compared {
        table.row([
            visible(&row.day).into_owned(),
            visible(&row.model).into_owned(),
            row.calls.to_string(),
            show_money(row.confirmed),
            show_money(row.unconfirmed),
            show_money(row.provider),
            drift(row),
            row.standing.as_str().to_owned(),
        ]);
    }
    let text = table.render();
    out.write(To::Answer, &text);
    let words = match drifts {
        0 => "no drift beyond what unconfirmed calls explain".to_owned(),
        1 => "1 row differs by more than unconfirmed calls explain".to_owned(),
        many => format!("{many} rows differ by more than unconfirmed calls explain"),
    };
    out.line(To::Answer, &words);
}
