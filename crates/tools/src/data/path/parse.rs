//! From the text of a JSONPath to its segments.
//!
//! A recursive descent parser of the grammar of RFC 9535, with the place of each error.

use super::{
    Comparison, MAX_NESTING, MAX_REGEX_BYTES, Operand, Refused, Segment, Selector, SubQuery, Test,
};
use crate::data::{Node, json_text};

/// RFC 9535, section 2.1: integers are within the exact range of a double.
const MAX_INTEGER: i64 = (1 << 53) - 1;

pub(super) fn path(text: &str) -> Result<Vec<Segment>, Refused> {
    let mut parser = Parser {
        text,
        at: 1,
        nesting: 0,
    };
    let segments = parser.segments()?;
    if parser.at < text.len() {
        return Err(parser.refused("expected `.`, `..` or `[`"));
    }
    Ok(segments)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    nesting: usize,
}

/// What stands on one side of a comparison, or alone.
enum Term {
    Operand(Operand),
    Query(SubQuery),
    Test(Test),
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn refused(&self, message: &str) -> Refused {
        let place = self.text[..self.at].chars().count() + 1;
        format!("the path is not valid at character {place}: {message}")
    }

    fn expect(&mut self, text: &str) -> Result<(), Refused> {
        if self.eat(text) {
            Ok(())
        } else {
            Err(self.refused(&format!("expected `{text}`")))
        }
    }

    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.refused(&format!("nested more than {MAX_NESTING} deep")));
        }
        let parsed = parse(self)?;
        self.nesting -= 1;
        Ok(parsed)
    }

    fn segments(&mut self) -> Result<Vec<Segment>, Refused> {
        let mut segments = Vec::new();
        loop {
            let before = self.at;
            self.space();
            let descends = self.eat("..");
            let selectors = if self.rest().starts_with('[') {
                self.deeper(Self::brackets)?
            } else if descends || self.eat(".") {
                vec![if self.eat("*") {
                    Selector::All
                } else {
                    Selector::Name(self.name()?)
                }]
            } else {
                self.at = before;
                return Ok(segments);
            };
            segments.push(Segment {
                descends,
                selectors,
            });
        }
    }

    fn name(&mut self) -> Result<String, Refused> {
        let rest = self.rest();
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        if !rest.starts_with(is_first) {
            return Err(self.refused("expected a name; other keys are written as `['key']`"));
        }
        let end = rest
            .find(|c| !is_first(c) && !c.is_ascii_digit())
            .unwrap_or(rest.len());
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    fn brackets(&mut self) -> Result<Vec<Selector>, Refused> {
        self.expect("[")?;
        let mut selectors = Vec::new();
        loop {
            self.space();
            selectors.push(self.selector()?);
            self.space();
            if self.eat("]") {
                return Ok(selectors);
            }
            if !self.eat(",") {
                return Err(self.refused("expected `,` or `]`"));
            }
        }
    }

    fn selector(&mut self) -> Result<Selector, Refused> {
        match self.peek() {
            Some('\'' | '"') => Ok(Selector::Name(self.string()?)),
            Some('*') => {
                self.at += 1;
                Ok(Selector::All)
            }
            Some('?') => {
                self.at += 1;
                self.space();
                Ok(Selector::Filter(self.deeper(Self::any)?))
            }
            Some('0'..='9' | '-' | ':') => self.index_or_slice(),
            _ => Err(self.refused("expected a name in quotes, a number, `*`, `:` or `?`")),
        }
    }

    fn index_or_slice(&mut self) -> Result<Selector, Refused> {
        let start = self.integer()?;
        self.space();
        if !self.eat(":") {
            return start
                .map(Selector::Index)
                .ok_or_else(|| self.refused("expected a number"));
        }
        self.space();
        let end = self.integer()?;
        self.space();
        let step = if self.eat(":") {
            self.space();
            self.integer()?
        } else {
            None
        };
        Ok(Selector::Slice {
            start,
            end,
            step: step.unwrap_or(1),
        })
    }

    fn integer(&mut self) -> Result<Option<i64>, Refused> {
        let rest = self.rest();
        let digits_from = usize::from(rest.starts_with('-'));
        let len = rest[digits_from..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        if len == 0 {
            return if digits_from == 0 {
                Ok(None)
            } else {
                Err(self.refused("expected a digit after `-`"))
            };
        }
        let text = &rest[..digits_from + len];
        let digits = &text[digits_from..];
        if digits.len() > 1 && digits.starts_with('0') || text == "-0" {
            return Err(self.refused("a number does not start with a zero"));
        }
        let number = text
            .parse::<i64>()
            .ok()
            .filter(|number| number.abs() <= MAX_INTEGER);
        let number = number.ok_or_else(|| self.refused("the number is too large"))?;
        self.at += text.len();
        Ok(Some(number))
    }

    /// A string in either kind of quotes, read by the JSON parser after its quotes are made double.
    fn string(&mut self) -> Result<String, Refused> {
        let rest = self.rest();
        let quote = rest.chars().next().unwrap_or('"');
        let mut json = String::from("\"");
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    json.push('"');
                    let parsed = json_text::parse(&json);
                    let Ok(Node::Text(text)) = parsed else {
                        let reason = parsed.err().map_or_else(String::new, |bad| bad.message);
                        return Err(self.refused(&format!("the string is not valid: {reason}")));
                    };
                    self.at += at + 1;
                    return Ok(text.into());
                }
                '"' => json.push_str("\\\""),
                '\\' => match chars.next() {
                    Some((_, '\'')) if quote == '\'' => json.push('\''),
                    Some((_, '"')) if quote == '\'' => {
                        return Err(self.refused("`\\\"` has no meaning in single quotes"));
                    }
                    Some((_, escaped)) => {
                        json.push('\\');
                        json.push(escaped);
                    }
                    None => break,
                },
                c => json.push(c),
            }
        }
        Err(self.refused("the string is not closed"))
    }

    fn any(&mut self) -> Result<Test, Refused> {
        self.chain("||", Self::every, Test::Any)
    }

    fn every(&mut self) -> Result<Test, Refused> {
        self.chain("&&", Self::basic, Test::Every)
    }

    fn chain(
        &mut self,
        operator: &str,
        parse: fn(&mut Self) -> Result<Test, Refused>,
        join: fn(Vec<Test>) -> Test,
    ) -> Result<Test, Refused> {
        let mut tests = vec![parse(self)?];
        loop {
            let before = self.at;
            self.space();
            if !self.eat(operator) {
                self.at = before;
                return Ok(if tests.len() == 1 {
                    tests.remove(0)
                } else {
                    join(tests)
                });
            }
            self.space();
            tests.push(parse(self)?);
        }
    }

    fn basic(&mut self) -> Result<Test, Refused> {
        if self.eat("!") {
            self.space();
            let negated = self.deeper(|parser| {
                if parser.rest().starts_with('(') {
                    return parser.parentheses();
                }
                match parser.term()? {
                    Term::Query(query) => Ok(Test::Exists(query)),
                    Term::Test(test) => Ok(test),
                    Term::Operand(_) => {
                        Err(parser.refused("`!` stands before a query or a condition"))
                    }
                }
            })?;
            return Ok(Test::Not(Box::new(negated)));
        }
        if self.rest().starts_with('(') {
            return self.deeper(Self::parentheses);
        }
        let left = self.term()?;
        let before = self.at;
        self.space();
        let Some(how) = self.comparison()? else {
            self.at = before;
            return match left {
                Term::Query(query) => Ok(Test::Exists(query)),
                Term::Test(test) => Ok(test),
                Term::Operand(_) => {
                    Err(self.refused("expected a comparison such as `== 'x'` or `< 10`"))
                }
            };
        };
        self.space();
        let left = self.operand(left)?;
        let right = self.term()?;
        let right = self.operand(right)?;
        Ok(Test::Compare { left, how, right })
    }

    fn parentheses(&mut self) -> Result<Test, Refused> {
        self.expect("(")?;
        self.space();
        let test = self.any()?;
        self.space();
        self.expect(")")?;
        Ok(test)
    }

    fn comparison(&mut self) -> Result<Option<Comparison>, Refused> {
        for (text, how) in [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ] {
            if self.eat(text) {
                return Ok(Some(how));
            }
        }
        if self.rest().starts_with('=') {
            return Err(self.refused("equality is written `==`"));
        }
        Ok(None)
    }

    fn operand(&self, term: Term) -> Result<Operand, Refused> {
        match term {
            Term::Operand(operand) => Ok(operand),
            Term::Query(query) if query.is_single() => Ok(Operand::Single(query)),
            Term::Query(_) => Err(self.refused(
                "a query that is compared names one value: no `*`, `..`, slice or filter",
            )),
            Term::Test(_) => {
                Err(self.refused("the answer of `match` and `search` is not compared"))
            }
        }
    }

    fn term(&mut self) -> Result<Term, Refused> {
        match self.peek() {
            Some('@' | '$') => Ok(Term::Query(self.query()?)),
            Some('\'' | '"') => Ok(Term::Operand(Operand::Literal(Node::Text(
                self.string()?.into(),
            )))),
            Some('0'..='9' | '-') => self.number(),
            Some('a'..='z') => self.word(),
            _ => Err(self.refused(
                "expected `@`, `$`, a string, a number, `true`, `false`, `null` or a function",
            )),
        }
    }

    fn query(&mut self) -> Result<SubQuery, Refused> {
        let from_root = self.eat("$");
        if !from_root {
            self.expect("@")?;
        }
        let segments = self.deeper(Self::segments)?;
        Ok(SubQuery {
            from_root,
            segments,
        })
    }

    fn number(&mut self) -> Result<Term, Refused> {
        let rest = self.rest();
        let is_part = |(at, c): (usize, char)| {
            let signed = matches!(c, '+' | '-') && (at == 0 || rest[..at].ends_with(['e', 'E']));
            c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E') || signed
        };
        let end = rest
            .char_indices()
            .find(|part| !is_part(*part))
            .map_or(rest.len(), |(at, _)| at);
        match json_text::parse(&rest[..end]) {
            Ok(number @ Node::Number(_)) => {
                self.at += end;
                Ok(Term::Operand(Operand::Literal(number)))
            }
            _ => Err(self.refused("the number is not valid")),
        }
    }

    fn word(&mut self) -> Result<Term, Refused> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let word = &rest[..end];
        let literal = match word {
            "true" => Some(Node::Bool(true)),
            "false" => Some(Node::Bool(false)),
            "null" => Some(Node::Null),
            _ => None,
        };
        if let Some(literal) = literal {
            self.at += end;
            return Ok(Term::Operand(Operand::Literal(literal)));
        }
        if !matches!(word, "length" | "count" | "value" | "match" | "search") {
            return Err(
                self.refused("the functions are `length`, `count`, `value`, `match` and `search`")
            );
        }
        self.at += end;
        self.expect("(")?;
        self.space();
        let term = self.deeper(|parser| parser.function(word))?;
        self.space();
        self.expect(")")?;
        Ok(term)
    }

    fn function(&mut self, name: &str) -> Result<Term, Refused> {
        match name {
            "length" => {
                let argument = self.term()?;
                Ok(Term::Operand(Operand::Length(Box::new(
                    self.operand(argument)?,
                ))))
            }
            "count" | "value" => {
                let Term::Query(query) = self.term()? else {
                    return Err(self.refused(&format!("`{name}` takes a query")));
                };
                Ok(Term::Operand(if name == "count" {
                    Operand::Count(query)
                } else {
                    Operand::Value(query)
                }))
            }
            _ => {
                let argument = self.term()?;
                let text = self.operand(argument)?;
                self.space();
                self.expect(",")?;
                self.space();
                if !matches!(self.peek(), Some('\'' | '"')) {
                    return Err(self.refused("the pattern is a string in quotes"));
                }
                let pattern = self.string()?;
                let pattern = if name == "match" {
                    format!(r"\A(?:{pattern})\z")
                } else {
                    pattern
                };
                let compiled = regex::RegexBuilder::new(&pattern)
                    .size_limit(MAX_REGEX_BYTES)
                    .build();
                let pattern =
                    compiled.map_err(|_| self.refused("the pattern is not valid or too large"))?;
                Ok(Term::Test(Test::Matches { text, pattern }))
            }
        }
    }
}
