//! `otto check`

use clap::Args;
use otto::{ConfigErrors, Diagnostic};
use serde_json::json;

use crate::Performed;
use crate::context::Context;
use crate::error::Code;
use crate::output::{Out, To};

/// Arguments of `otto check`.
#[derive(Debug, Args)]
pub(crate) struct Check {}

impl Check {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        // Without the operator's configuration agents cannot be judged, so its errors are told alone.
        let checked = context.load_operator().and_then(|operator| {
            let agents = context.load_agents(&operator)?;
            Ok((operator, agents))
        });
        match checked {
            Ok((operator, agents)) => {
                let warnings: Vec<Diagnostic> = operator
                    .warnings()
                    .iter()
                    .chain(agents.warnings())
                    .cloned()
                    .collect();
                let count = agents.iter().count();
                if context.out.is_json() {
                    for warning in &warnings {
                        context.out.json(&diagnostic(warning));
                    }
                    context.out.json(&json!({"type": "checked", "agents": count, "errors": 0, "warnings": warnings.len()}));
                } else {
                    context.out.warnings(&warnings);
                    let line = match count {
                        0 => "no agent files yet; `otto init` writes a first one".to_owned(),
                        1 => "1 agent is valid".to_owned(),
                        count => format!("{count} agents are valid"),
                    };
                    context.out.line(To::Answer, &line);
                }
                Ok(Code::Completed)
            }
            Err(errors) => {
                report(&mut context.out, &errors);
                Ok(Code::Usage)
            }
        }
    }
}

fn report(out: &mut Out, errors: &ConfigErrors) {
    if !out.is_json() {
        out.line(To::Progress, &errors.to_string());
        return;
    }
    for problem in errors.diagnostics() {
        out.json(&diagnostic(problem));
    }
    let warnings = errors.diagnostics().len() - errors.error_count();
    out.json(&json!({"type": "checked", "errors": errors.error_count(), "warnings": warnings}));
}

fn diagnostic(diagnostic: &Diagnostic) -> serde_json::Value {
    let position = diagnostic.place.position.as_ref();
    json!({
        "type": "diagnostic",
        "severity": diagnostic.severity.as_str(),
        "message": diagnostic.message,
        "source": &*diagnostic.place.source,
        "line": position.map(|position| position.line),
        "column": position.map(|position| position.column),
        "expected": diagnostic.expected,
        "help": diagnostic.help,
    })
}
