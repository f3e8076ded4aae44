//! `otto kill`

use clap::Args;
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
        if !self.lift {
            // The file first: it needs no database, and every process on the state directory obeys it at once.
            let file = operator.state_dir.value.join(KILL_FILE);
            if let Err(error) = kill_switch::throw_file(&file, &self.reason) {
                let shown = visible(&file.to_string_lossy()).into_owned();
                let text =
                    format!("write {shown}: {error}; running processes hear of it within a second");
                context.out.line(To::Progress, &text);
            }
        }
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
        if let Some(row) = remains {
            let text = format!(
                "the kill switch stays thrown for processes that start so: {}",
                row.reason
            );
            return Err(Failure::new(Code::Refused, text).hint("unset OTTO_KILL_SWITCH"));
        }
        if context.out.is_json() {
            context.out.json(&json!({"type": "kill_switch", "thrown": !self.lift, "reason": (!self.lift).then_some(&self.reason)}));
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
