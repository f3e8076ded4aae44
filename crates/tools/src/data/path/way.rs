//! The way to a value, as a normalized path.
//!
//! Ways share what they have in common and are written out only when somebody looks, so that a hundred thousand
//! results below one long key cost one key.

use std::rc::Rc;

use crate::data::json_print::quoted;

/// The way from the document to one of its values.
#[derive(Debug, Clone)]
pub(crate) struct Way<'a>(Option<Rc<Link<'a>>>);

#[derive(Debug)]
struct Link<'a> {
    before: Way<'a>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Way<'a> {
    /// To the document itself.
    pub(super) const fn root() -> Self {
        Self(None)
    }

    pub(super) fn key(&self, key: &'a str) -> Self {
        self.then(Step::Key(key))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step<'a>) -> Self {
        Self(Some(Rc::new(Link {
            before: self.clone(),
            step,
        })))
    }

    /// The normalized path, cut after about `max` bytes.
    pub(crate) fn show(&self, max: usize) -> String {
        let mut steps = Vec::new();
        let mut here = self;
        while let Some(link) = &here.0 {
            steps.push(link.step);
            here = &link.before;
        }
        let mut shown = String::from("$");
        for step in steps.iter().rev() {
            match step {
                Step::Index(index) => shown.push_str(&format!("[{index}]")),
                Step::Key(key) if is_name(key) => shown.push_str(&format!(".{key}")),
                Step::Key(key) => shown.push_str(&format!(
                    "[{}]",
                    in_quotes(&key[..crate::text::floor(key, max)])
                )),
            }
            if shown.len() > max {
                shown.truncate(crate::text::floor(&shown, max));
                shown.push('…');
                break;
            }
        }
        shown
    }
}

fn is_name(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A key in single quotes, as a normalized path has it.
fn in_quotes(key: &str) -> String {
    let json = quoted(key);
    let inner = &json[1..json.len() - 1];
    format!("'{}'", inner.replace("\\\"", "\"").replace('\'', "\\'"))
}
