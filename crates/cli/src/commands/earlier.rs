//! `otto run --idempotency-key` with a key that was used before for the same: the invocation is told again.
//!
//! Invariant: nothing is paid for, and the exit code is that of the stored outcome.

use otto::text::visible_lines;
use otto::{InvocationId, InvocationQuery, Otto, standing};

use crate::Performed;
use crate::error::{Code, Failure};
use crate::output::{self, Out, Style, To, show_money};

/// Tells what became of an invocation.
pub(super) async fn tell(out: &mut Out, otto: &Otto, invocation: InvocationId) -> Performed {
    let query = InvocationQuery {
        invocation: Some(invocation),
        ..InvocationQuery::default()
    };
    let Some(record) = otto.invocations(query).await?.pop() else {
        return Err(Failure::other(format!(
            "the idempotency key was used before, for invocation {invocation}, of which nothing is stored"
        )));
    };
    let session = record.session;
    let code = record.outcome.map_or(Code::Other, Code::from);
    if out.is_json() {
        let mut value = output::record(&record);
        value["type"] = "earlier".into();
        value["exit_code"] = code.number().into();
        out.json(&value);
        return Ok(code);
    }
    if record.outcome.is_some() && !record.result.is_empty() {
        out.line(To::Answer, &visible_lines(&record.result));
    }
    let note = match record.outcome {
        Some(_) => format!(
            "this idempotency key was used before: invocation {invocation} ended as {} and was charged {}; nothing was run \
             or paid for again",
            standing(&record),
            show_money(record.cost)
        ),
        None if record.driven => format!(
            "this idempotency key was used before: invocation {invocation} is still running, and has no result yet"
        ),
        None => format!(
            "this idempotency key was used before: invocation {invocation} was interrupted and has no result yet"
        ),
    };
    let next = match record.outcome {
        Some(_) if record.resumable => format!("otto resume {session}"),
        None if !record.driven => format!("otto resume {session}"),
        Some(_) => format!("otto show {session}"),
        None => format!(
            "otto show {session}, which tells how far it is, or the same command again when it has ended"
        ),
    };
    let painter = out.painter(To::Progress);
    let note = format!("{} {note}", painter.paint(Style::Warn, "note:"));
    out.line(To::Progress, &note);
    out.line(To::Progress, &format!("\nsession {session}"));
    let next = painter.paint(Style::Accent, &next);
    out.line(To::Progress, &format!("next: {next}"));
    Ok(code)
}
