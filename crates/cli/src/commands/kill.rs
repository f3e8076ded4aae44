//! `otto kill`

use std::path::Path;

use clap::Args;
use otto::config::OperatorConfig;
use otto::text::visible;
use otto::{KILL_FILE, kill_switch};
use serde_json::json;

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{Style, To};

/// Arguments of `otto kill`.
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Why, for whoever finds it thrown
    #[arg(default_value = "thrown with `otto kill`")]
    reason: String,
    /// Lift it: agents may run again
    #[arg(long, conflicts_with = "reason")]
    lift: bool,
}

impl Kill {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let file = operator.state_dir.value.join(KILL_FILE);
        if self.lift && !is_thrown(context, &operator, &file)? {
            return Ok(tell_nothing_thrown(context));
        }
        let unwritten = if self.lift {
            None
        } else {
            // The file first: it needs no database, and every process on the state directory obeys it at once.
            kill_switch::throw_file(&file, &self.reason).err()
        };
        let remains = context.runtime()?.block_on(async {
            let otto = open::to_write(&operator).await?;
            let done = if self.lift {
                otto.lift_kill().await
            } else {
                otto.kill(&self.reason).await.map(|()| None)
            };
            open::close(otto).await;
            Ok::<_, Failure>(done?)
        })?;
        if let Some(error) = unwritten {
            let shown = visible(&file.to_string_lossy()).into_owned();
            let text =
                format!("write {shown}: {error}; running processes hear of it within a second");
            context.out.line(To::Progress, &text);
        }
        if let Some(row) = remains {
            let text = format!(
                "the kill switch stays thrown for processes that start so: {}",
                row.reason
            );
            return Err(Failure::new(Code::Refused, text).hint("unset OTTO_KILL_SWITCH"));
        }
        if context.out.is_json() {
            context.out.json(&json!({
                "type": "kill_switch",
                "thrown": !self.lift,
                "reason": (!self.lift).then_some(&self.reason),
                "was_thrown": self.lift.then_some(true),
            }));
            return Ok(Code::Completed);
        }
        let painter = context.out.painter(To::Answer);
        if self.lift {
            context.out.line(
                To::Answer,
                "the kill switch is lifted: agents may run again",
            );
        } else {
            let text = format!(
                "{}: {}",
                painter.paint(Style::Bad, "the kill switch is thrown"),
                visible(&self.reason)
            );
            context.out.line(To::Answer, &text);
            context.out.line(To::Answer, "no agent, model call or tool starts until `otto kill --lift`; what is stored stays readable");
        }
        Ok(Code::Completed)
    }
}

/// Whether there is a switch to lift. Looking creates nothing.
fn is_thrown(context: &Context, operator: &OperatorConfig, file: &Path) -> Result<bool, Failure> {
    // Whatever stands in its place: lifting tells what is wrong with it.
    if file.symlink_metadata().is_ok() {
        return Ok(true);
    }
    context.runtime()?.block_on(async {
        let Some(otto) = open::to_look(operator).await? else {
            return Ok(operator.kill_switch.value);
        };
        let thrown = otto.kill_switch().await;
        open::close(otto).await;
        Ok(thrown?.is_some())
    })
}

fn tell_nothing_thrown(context: &mut Context) -> Code {
    if context.out.is_json() {
        context.out.json(
            &json!({"type": "kill_switch", "thrown": false, "reason": null, "was_thrown": false}),
        );
    } else {
        context.out.line(
            To::Answer,
            "the kill switch was not thrown; there is nothing to lift",
        );
    }
    Code::Completed
}
