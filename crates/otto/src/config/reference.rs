//! The reference of all configuration, made from the tables of fields.

use std::fmt::Write as _;

use super::file::{CEILING_FIELDS, CONTEXT_FIELDS, OPERATOR_FIELDS};
use crate::decode::Field;
use crate::env::VARIABLES;
use crate::load::{AGENT_FIELDS, BUDGET_FIELDS};

/// Every key of the agent file and of the operator's configuration, and every environment variable, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = "# Configuration reference\n\n\
         This page is generated from the tables that the loader reads by; `cargo xtask docs` writes it.\n\
         [Configuration](configuration.md) explains who writes which file, and why.\n"
        .to_owned();
    let parts: [(&str, &str, &[Field]); 5] = [
        (
            "Agent file",
            "`.otto/agents/*.yml` of the project, `otto/agents/*.yml` of the user.",
            AGENT_FIELDS,
        ),
        (
            "Agent file: `budgets`",
            "Limits of each invocation.",
            BUDGET_FIELDS,
        ),
        (
            "Operator's configuration",
            "`otto/config.yml` of the user, `/etc/otto/config.yml`. Never read from a project.",
            OPERATOR_FIELDS,
        ),
        (
            "Operator's configuration: `ceilings`",
            "The most that anything may use.",
            CEILING_FIELDS,
        ),
        (
            "Operator's configuration: `contexts`",
            "What tools share while an invocation runs.",
            CONTEXT_FIELDS,
        ),
    ];
    for (title, where_from, fields) in parts {
        let _ = write!(
            page,
            "\n## {title}\n\n{where_from}\n\n| Key | Meaning | Expected | Default |\n|---|---|---|---|\n"
        );
        for field in fields {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                field.name,
                cell(field.meaning),
                cell(field.form),
                cell(field.default)
            );
        }
    }
    page.push_str(
        "\n## Environment variables\n\n\
         Variables that begin with `OTTO_VAR_` are read in addition, where an agent file names them.\n\n\
         | Variable | Meaning | Default |\n|---|---|---|\n",
    );
    for variable in VARIABLES {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            variable.name,
            cell(variable.meaning),
            cell(variable.default)
        );
    }
    page
}

/// A text inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
