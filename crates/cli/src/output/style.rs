//! Colours, by meaning.

/// What a piece of text means to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A heading or a name.
    Strong,
    /// Secondary.
    Dim,
    /// It worked.
    Good,
    /// It did not.
    Bad,
    /// Somebody should look.
    Warn,
    /// Something to type or to follow.
    Accent,
}

/// Paints, or leaves text alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Painter {
    on: bool,
}

impl Painter {
    pub(crate) const fn new(on: bool) -> Self {
        Self { on }
    }

    /// Whether it adds anything.
    pub(crate) const fn is_on(self) -> bool {
        self.on
    }

    /// The text in its style. The text must already be safe to show.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if !self.on || text.is_empty() {
            return text.to_owned();
        }
        // SGR parameters of ECMA-48; the eight basic colours follow the terminal's own theme.
        let code = match style {
            Style::Strong => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "31",
            Style::Warn => "33",
            Style::Accent => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_text_is_untouched() {
        assert_eq!(Painter::new(false).paint(Style::Bad, "x"), "x");
        assert_eq!(
            Painter::new(true).paint(Style::Bad, "x"),
            "\x1b[31mx\x1b[0m"
        );
        assert_eq!(Painter::new(true).paint(Style::Bad, ""), "");
    }
}
