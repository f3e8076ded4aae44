//! Tables for people: columns by width, numbers to the right.
//!
//! Widths are counted in characters. Texts of people (titles, descriptions), which may hold wide ones, stand in
//! the last column, where nothing follows that could be pushed aside.

/// Blanks between two columns.
const GAP: usize = 2;

/// A table without lines: headings, then rows.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    to_the_right: Vec<bool>,
}

impl Table {
    /// A table with these headings. One that begins with `>` names a column of numbers.
    pub(crate) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        let headings: Vec<&str> = headings.into_iter().collect();
        Self {
            to_the_right: headings
                .iter()
                .map(|heading| heading.starts_with('>'))
                .collect(),
            rows: vec![
                headings
                    .iter()
                    .map(|heading| heading.trim_start_matches('>').to_owned())
                    .collect(),
            ],
        }
    }

    /// Adds a row. Cells must already be safe to show.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// The rows as text, each line indented by two, with a line end.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.to_the_right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), to_the_right) in row.iter().zip(&widths).zip(&self.to_the_right) {
                let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
                let cell = if *to_the_right {
                    format!("{blanks}{cell}")
                } else {
                    format!("{cell}{blanks}")
                };
                line.push_str(&" ".repeat(GAP));
                line.push_str(&cell);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let mut table = Table::new(["model", ">cost"]);
        table.row(["a".to_owned(), "$1.00".to_owned()]);
        table.row(["longer".to_owned(), "$10.00".to_owned()]);
        assert_eq!(
            table.render(),
            "  model     cost\n  a        $1.00\n  longer  $10.00\n"
        );
    }
}
