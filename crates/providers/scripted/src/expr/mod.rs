//! The expression language of scripts: a value, then filters, from left to right.
//!
//! ```text
//! result.find | lines | capture "^([^:]+):" | unique | first 3
//! ```
//!
//! It is small on purpose. There are no operators, no loops and no definitions of functions; every filter is
//! total and linear in its input, regular expressions run in linear time, and the bytes an evaluation may
//! make are bounded. So a script always ends, whatever it says and whatever a tool returned.
//!
//! Invariant: what can be known to be wrong without a request is an error when the script is parsed.

mod filter;
mod scope;
mod template;

use serde_json::Value as Json;

use filter::Filter;
pub(crate) use scope::{Scope, Work};
pub(crate) use template::{JsonTemplate, Template};

use crate::limits;
use crate::script::{nearest, shown};

/// Why an expression has no value for this request. Goes to the client as a protocol error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(pub(crate) String);

/// A parsed expression.
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    text: String,
    source: Source,
    steps: Vec<Step>,
}

/// Where an expression begins.
#[derive(Debug, Clone)]
enum Source {
    Literal(Json),
    Task,
    User,
    System,
    Model,
    Turn,
    Item,
    Index,
    /// The latest result of the calls with this label.
    Result(String),
    /// Whether that result is an error.
    Failed(String),
    /// The input of the latest call with this label.
    Input(String),
    /// All results of the calls with this label, in order.
    Results(String),
    /// All inputs of the calls with this label, in order.
    Inputs(String),
    /// All results of the conversation, in order.
    AllResults,
    /// A `let` of the conversation, by position.
    Let(usize),
}

#[derive(Debug, Clone)]
enum Step {
    /// `[2]`, from the end if negative.
    At(i64),
    Filter(Filter),
}

/// The names an expression may use where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    /// The `let` names visible here, in order.
    pub(crate) lets: &'a [String],
    /// Whether `item` and `index` exist here.
    pub(crate) in_for_each: bool,
}

const ROOTS: [&str; 13] = [
    "task", "user", "system", "model", "turn", "item", "index", "result", "failed", "input",
    "results", "inputs", "let",
];

impl Expr {
    /// Parses an expression.
    ///
    /// # Errors
    /// A text that says what was expected.
    pub(crate) fn parse(text: &str, names: Names<'_>) -> Result<Self, String> {
        if text.len() > limits::EXPRESSION_BYTES {
            return Err(format!(
                "the expression is {} bytes long: expected at most {}",
                text.len(),
                limits::EXPRESSION_BYTES
            ));
        }
        let mut tokens = Tokens::of(text)?;
        let (source, mut steps) = parse_source(&mut tokens, names)?;
        while tokens.take(&Token::Pipe) {
            steps.push(Step::Filter(parse_filter(&mut tokens)?));
            if steps.len() > limits::FILTERS {
                return Err(format!(
                    "more than {} filters in one expression",
                    limits::FILTERS
                ));
            }
        }
        match tokens.next() {
            None => Ok(Self {
                text: text.trim().to_owned(),
                source,
                steps,
            }),
            Some(token) => Err(format!("expected `|` and a filter, found {token}")),
        }
    }

    /// The label of the call this expression refers to.
    pub(crate) fn label(&self) -> Option<&str> {
        match &self.source {
            Source::Result(label)
            | Source::Failed(label)
            | Source::Input(label)
            | Source::Results(label)
            | Source::Inputs(label) => Some(label),
            Source::Literal(_)
            | Source::Task
            | Source::User
            | Source::System
            | Source::Model
            | Source::Turn
            | Source::Item
            | Source::Index
            | Source::AllResults
            | Source::Let(_) => None,
        }
    }

    /// The value for this request.
    pub(crate) fn value(&self, scope: &Scope<'_>) -> Result<Json, Failure> {
        let mut value = scope.source(&self.source)?;
        for step in &self.steps {
            value = match step {
                Step::At(index) => filter::nth(value, *index),
                Step::Filter(filter) => {
                    let value = filter.apply(value).map_err(|problem| {
                        Failure(format!("in `{}`: {problem}", shown(&self.text)))
                    })?;
                    scope.work.spend(filter::size(&value))?;
                    value
                }
            };
        }
        Ok(value)
    }

    /// Whether the value counts as true: not absent, `false`, `0`, `""` or an empty list.
    pub(crate) fn holds(&self, scope: &Scope<'_>) -> Result<bool, Failure> {
        self.value(scope).map(|value| filter::is_true(&value))
    }

    /// The value as text; an absent one is a failure that names the expression.
    pub(crate) fn text(&self, scope: &Scope<'_>) -> Result<String, Failure> {
        match self.value(scope)? {
            Json::Null => Err(Failure(format!(
                "`{{{{ {} }}}}` has no value for this request: add `| default \"...\"` or check the conversation so far",
                shown(&self.text)
            ))),
            value => Ok(filter::to_text(&value)),
        }
    }
}

fn parse_source(tokens: &mut Tokens, names: Names<'_>) -> Result<(Source, Vec<Step>), String> {
    let root = match tokens.next() {
        Some(Token::Text(text)) => return Ok((Source::Literal(Json::String(text)), Vec::new())),
        Some(Token::Number(number)) => return Ok((Source::Literal(number.into()), Vec::new())),
        Some(Token::Name(name)) => name,
        Some(token) => {
            return Err(format!(
                "expected a value such as `task` or `result.NAME`, found {token}"
            ));
        }
        None => {
            return Err(
                "the expression is empty: expected a value such as `task` or `result.NAME`"
                    .to_owned(),
            );
        }
    };
    let label = if tokens.take(&Token::Dot) {
        match tokens.next() {
            Some(Token::Name(name)) => Some(name),
            Some(token) => return Err(format!("expected a name after `{root}.`, found {token}")),
            None => return Err(format!("expected a name after `{root}.`")),
        }
    } else {
        None
    };
    let source = resolve(&root, label, names)?;
    let mut steps = Vec::new();
    while tokens.take(&Token::Open) {
        match (tokens.next(), tokens.next()) {
            (Some(Token::Number(index)), Some(Token::Close)) => steps.push(Step::At(index)),
            _ => {
                return Err(
                    "expected a whole number in brackets, such as `[0]` or `[-1]`".to_owned(),
                );
            }
        }
    }
    Ok((source, steps))
}

fn resolve(root: &str, label: Option<String>, names: Names<'_>) -> Result<Source, String> {
    let needs =
        |what: &str| format!("`{root}` needs the name of a call: write `{root}.NAME`, {what}");
    let source = match (root, label) {
        ("result", Some(label)) => Source::Result(label),
        ("failed", Some(label)) => Source::Failed(label),
        ("input", Some(label)) => Source::Input(label),
        ("results", Some(label)) => Source::Results(label),
        ("inputs", Some(label)) => Source::Inputs(label),
        ("results", None) => Source::AllResults,
        ("result", None) => return Err(needs("or `results[0]` for a result by position")),
        ("failed" | "input" | "inputs", None) => {
            return Err(needs("where NAME is what `as` gave to the call"));
        }
        ("task", None) => Source::Task,
        ("user", None) => Source::User,
        ("system", None) => Source::System,
        ("model", None) => Source::Model,
        ("turn", None) => Source::Turn,
        ("item" | "index", None) if !names.in_for_each => {
            return Err(format!("`{root}` exists only in a call with `for_each`"));
        }
        ("item", None) => Source::Item,
        ("index", None) => Source::Index,
        (name, None) => match names.lets.iter().position(|known| known == name) {
            Some(position) => Source::Let(position),
            None => {
                let known = ROOTS
                    .into_iter()
                    .chain(names.lets.iter().map(String::as_str));
                let hint = nearest(name, known).map_or_else(
                    || "expected `task`, `user`, `result.NAME`, `results`, `input.NAME` or a `let` name defined before".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err(format!("unknown value `{}`: {hint}", shown(name)));
            }
        },
        (name, Some(label)) => {
            return Err(format!(
                "`{}` has no part `{}`: only result, failed, input, results and inputs have names",
                shown(name),
                shown(&label)
            ));
        }
    };
    Ok(source)
}

fn parse_filter(tokens: &mut Tokens) -> Result<Filter, String> {
    let name = match tokens.next() {
        Some(Token::Name(name)) => name,
        Some(token) => return Err(format!("expected a filter after `|`, found {token}")),
        None => return Err("expected a filter after `|`".to_owned()),
    };
    let mut arguments = Vec::new();
    while let Some(Token::Text(_) | Token::Number(_)) = tokens.peek() {
        arguments.extend(tokens.next());
    }
    Filter::new(&name, arguments)
}

/// A piece of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Number(i64),
    Pipe,
    Dot,
    Open,
    Close,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{}`", shown(name)),
            Self::Text(text) => write!(f, "the text \"{}\"", shown(text)),
            Self::Number(number) => write!(f, "`{number}`"),
            Self::Pipe => f.write_str("`|`"),
            Self::Dot => f.write_str("`.`"),
            Self::Open => f.write_str("`[`"),
            Self::Close => f.write_str("`]`"),
        }
    }
}

struct Tokens {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Tokens {
    fn of(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            let token = match c {
                _ if c.is_whitespace() => continue,
                '|' => Token::Pipe,
                '.' => Token::Dot,
                '[' => Token::Open,
                ']' => Token::Close,
                '"' | '\'' => Token::Text(quoted(c, &mut rest)?),
                '-' | '0'..='9' => {
                    let mut digits = String::from(c);
                    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                        digits.push(digit);
                    }
                    Token::Number(
                        digits
                            .parse()
                            .map_err(|_| format!("`{}` is not a whole number", shown(&digits)))?,
                    )
                }
                'a'..='z' | 'A'..='Z' | '_' => {
                    let mut name = String::from(c);
                    while let Some(next) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_')
                    {
                        name.push(next);
                    }
                    Token::Name(name)
                }
                other => {
                    return Err(format!(
                        "unexpected character `{}`",
                        shown(&other.to_string())
                    ));
                }
            };
            tokens.push(token);
        }
        Ok(Self {
            tokens: tokens.into_iter().peekable(),
        })
    }

    fn next(&mut self) -> Option<Token> {
        self.tokens.next()
    }

    fn peek(&mut self) -> Option<&Token> {
        self.tokens.peek()
    }

    fn take(&mut self, token: &Token) -> bool {
        self.tokens.next_if_eq(token).is_some()
    }
}

/// Reads a quoted text. `\n`, `\t`, `\\` and the quote are escapes; any other backslash stands for itself,
/// so that a regular expression needs no doubled ones.
fn quoted(
    quote: char,
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<String, String> {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            _ if c == quote => return Ok(text),
            '\\' => match rest.peek().copied() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(next) if next == quote || next == '\\' => text.push(next),
                _ => {
                    text.push('\\');
                    continue;
                }
            },
            _ => {
                text.push(c);
                continue;
            }
        }
        rest.next();
    }
    Err(format!(
        "the text that begins with {quote}{} has no closing {quote}",
        shown(&text)
    ))
}

#[cfg(test)]
mod tests;
