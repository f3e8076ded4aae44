//! Results as a Markdown table: what was measured, beside what, and whether the target is reached.

/// One line of a table.
pub(crate) struct Row {
    what: String,
    figure: String,
    beside: String,
    target: String,
    reached: bool,
}

impl Row {
    /// A ratio that shall be at most `most`.
    pub(crate) fn at_most(what: &str, figure: String, beside: &str, ratio: f64, most: f64) -> Self {
        Self {
            what: what.to_owned(),
            figure,
            beside: format!("{ratio:.2}x {beside}"),
            target: format!("at most {most}x"),
            reached: ratio <= most,
        }
    }

    /// A ratio that shall be at least `least`.
    pub(crate) fn at_least(
        what: &str,
        figure: String,
        beside: &str,
        ratio: f64,
        least: f64,
    ) -> Self {
        Self {
            what: what.to_owned(),
            figure,
            beside: format!("{ratio:.2}x {beside}"),
            target: format!("at least {least}x"),
            reached: ratio >= least,
        }
    }

    /// A figure that stands by itself.
    pub(crate) fn alone(what: &str, figure: String, target: &str, reached: bool) -> Self {
        Self {
            what: what.to_owned(),
            figure,
            beside: String::new(),
            target: target.to_owned(),
            reached,
        }
    }
}

/// Prints a table.
pub(crate) fn print(title: &str, rows: &[Row]) {
    println!(
        "\n{title}\n\n| what | figure | beside | target | reached |\n| --- | --- | --- | --- | --- |"
    );
    for row in rows {
        let reached = if row.reached { "yes" } else { "**no**" };
        println!(
            "| {} | {} | {} | {} | {reached} |",
            row.what, row.figure, row.beside, row.target
        );
    }
}
