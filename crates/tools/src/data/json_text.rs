//! Reads JSON (RFC 8259), strictly, and says what is wrong in the words of the usual mistakes.

use super::{Bad, Keys, MAX_DEPTH, MAX_NODES, MAX_NUMBER_BYTES, Node};

/// Parses one document.
pub(crate) fn parse(text: &str) -> Result<Node, Bad> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser {
        bytes: text.as_bytes(),
        text,
        at: 0,
        nodes: 0,
    };
    parser.space();
    let node = parser.value(0)?;
    parser.space();
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.bad("expected the end: one document is one value")),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    nodes: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn bad(&self, message: impl Into<String>) -> Bad {
        self.bad_at(self.at, message)
    }

    fn bad_at(&self, at: usize, message: impl Into<String>) -> Bad {
        let before = &self.text[..crate::text::floor(self.text, at)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Bad {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Bad> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.bad(format!("more than {MAX_NODES} values")));
        }
        if depth >= MAX_DEPTH && matches!(self.peek(), Some(b'[' | b'{')) {
            return Err(self.bad(format!(
                "lists and objects more than {MAX_DEPTH} levels deep"
            )));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Node::Text(self.string()?.into())),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Node, Bad> {
        for (word, node) in [
            ("true", Node::Bool(true)),
            ("false", Node::Bool(false)),
            ("null", Node::Null),
        ] {
            if self.bytes[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(node);
            }
        }
        Err(self.bad(match self.peek() {
            None => "the text ends where a value is expected",
            Some(b'\'') => "strings are in double quotes",
            Some(b'/') => "JSON has no comments",
            Some(b'+') => "a number does not start with `+`",
            Some(b'.') => "a number has a digit before the point",
            Some(b'N' | b'I') => "JSON has no NaN and no Infinity",
            Some(b'T' | b'F') => "the words are `true`, `false` and `null`, in lower case",
            Some(b'u') => "JSON has no `undefined`; use `null`",
            Some(b']' | b'}') => "a value is expected; a comma before the end is not allowed",
            Some(_) => {
                "expected a value: an object, array, string, number, `true`, `false` or `null`"
            }
        }))
    }

    fn object(&mut self, depth: usize) -> Result<Node, Bad> {
        self.at += 1;
        let mut entries = Vec::new();
        let mut keys = Keys::default();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Node::Map(entries));
        }
        loop {
            self.space();
            let start = self.at;
            let key = match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'}') => return Err(self.bad("a comma before `}` is not allowed")),
                None => return Err(self.bad("the text ends inside an object")),
                Some(_) => return Err(self.bad("expected a key in double quotes")),
            };
            if !keys.is_new(&entries, &key) {
                return Err(self.bad_at(
                    start,
                    format!("the key {} is there twice", crate::text::quote(&key)),
                ));
            }
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.bad("expected `:` after a key"));
            }
            self.at += 1;
            self.space();
            let value = self.value(depth + 1)?;
            entries.push((key.into(), value));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Node::Map(entries));
                }
                None => return Err(self.bad("the text ends inside an object")),
                Some(_) => return Err(self.bad("expected `,` or `}` after a value")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Node, Bad> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Node::List(items));
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Node::List(items));
                }
                None => return Err(self.bad("the text ends inside an array")),
                Some(_) => return Err(self.bad("expected `,` or `]` after a value")),
            }
        }
    }

    fn number(&mut self) -> Result<Node, Bad> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => {
                self.at += 1;
                if matches!(self.peek(), Some(b'0'..=b'9')) {
                    return Err(self.bad_at(start, "a number does not start with a zero"));
                }
            }
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.bad("expected a digit after `-`")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.at_least_one_digit("after the point")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.at_least_one_digit("in the exponent")?;
        }
        let text = &self.text[start..self.at];
        if text.len() > MAX_NUMBER_BYTES {
            return Err(self.bad_at(
                start,
                format!("a number has more than {MAX_NUMBER_BYTES} characters"),
            ));
        }
        Ok(Node::Number(text.into()))
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn at_least_one_digit(&mut self, place: &str) -> Result<(), Bad> {
        let start = self.at;
        self.digits();
        if self.at == start {
            Err(self.bad(format!("expected a digit {place}")))
        } else {
            Ok(())
        }
    }

    fn string(&mut self) -> Result<String, Bad> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        let mut from = self.at;
        loop {
            match self.peek() {
                None => return Err(self.bad_at(start, "a string is not closed")),
                Some(b'"') => {
                    text.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    text.push_str(&self.text[from..self.at]);
                    self.escape(&mut text)?;
                    from = self.at;
                }
                Some(b'\n' | b'\r') => {
                    return Err(
                        self.bad("a string does not span lines; write a line break as `\\n`")
                    );
                }
                Some(byte) if byte < b' ' => {
                    return Err(self.bad(format!(
                        "a control character in a string is written as `\\u{byte:04x}`"
                    )));
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Bad> {
        let start = self.at;
        self.at += 1;
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let c = self.unicode(start)?;
                text.push(c);
                return Ok(());
            }
            _ => {
                let known = "there is no such escape; a backslash is written as `\\\\`";
                return Err(self.bad_at(start, known));
            }
        };
        self.at += 1;
        text.push(plain);
        Ok(())
    }

    fn unicode(&mut self, start: usize) -> Result<char, Bad> {
        let first = self.hex4(start)?;
        let unpaired = "half of a surrogate pair stands alone";
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.bad_at(start, unpaired));
        }
        if first >= 0xdc00 || !self.bytes[self.at..].starts_with(b"\\u") {
            return Err(self.bad_at(start, unpaired));
        }
        self.at += 2;
        let second = self.hex4(start)?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(self.bad_at(start, unpaired));
        }
        let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        char::from_u32(joined).ok_or_else(|| self.bad_at(start, unpaired))
    }

    fn hex4(&mut self, start: usize) -> Result<u32, Bad> {
        let digits = self
            .bytes
            .get(self.at..self.at + 4)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else {
            return Err(self.bad_at(start, "`\\u` is followed by four hexadecimal digits"));
        };
        self.at += 4;
        Ok(digits.iter().fold(0, |value, digit| {
            value * 16 + char::from(*digit).to_digit(16).unwrap_or(0)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::json_print::{Style, print};
    use super::*;

    fn compact(text: &str) -> Result<String, String> {
        parse(text)
            .map(|node| print(&node, Style::Compact, usize::MAX).text)
            .map_err(|bad| bad.explain(text))
    }

    #[test]
    fn documents_stay_what_they_are() {
        for text in [
            "null",
            "[]",
            "{}",
            r#"{"b":1,"a":[true,false,null]}"#,
            "123456789012345678901234567890.10",
            "-0",
            "1E400",
            r#""a\"b\\c\n\u001f""#,
            r#""ünï 漢字 🦀""#,
        ] {
            assert_eq!(compact(text).as_deref(), Ok(text));
        }
        assert_eq!(compact("\u{feff} [ 1 , 2 ]\n").as_deref(), Ok("[1,2]"));
        assert_eq!(compact(r#""\ud83e\udd80\/""#).as_deref(), Ok("\"🦀/\""));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, part) in [
            ("", "line 1, column 1: the text ends"),
            ("{\n  \"a\": 1,\n}", "line 3, column 1: a comma before `}`"),
            ("[1,]", "a comma before the end"),
            ("{'a': 1}", "a key in double quotes"),
            ("{a: 1}", "a key in double quotes"),
            ("['a']", "strings are in double quotes"),
            ("[1 2]", "expected `,` or `]`"),
            ("{\"a\" 1}", "expected `:`"),
            (
                "{\"a\": 1, \"a\": 2}",
                "column 10: the key `a` is there twice",
            ),
            ("[1] // x", "expected the end"),
            ("// x", "no comments"),
            ("[NaN]", "no NaN"),
            ("[True]", "lower case"),
            ("[01]", "does not start with a zero"),
            ("[1.]", "digit after the point"),
            ("[1e]", "digit in the exponent"),
            ("[-]", "digit after `-`"),
            ("\"a\nb\"", "does not span lines"),
            ("\"a\tb\"", "`\\u0009`"),
            ("\"\\x\"", "no such escape"),
            ("\"\\ud800\"", "surrogate"),
            ("\"\\ud800\\u0041\"", "surrogate"),
            ("\"abc", "not closed"),
            ("{\"a\":", "the text ends where a value is expected"),
        ] {
            let error = compact(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn bombs_are_refused_early() {
        let deep = "[".repeat(1_000_000);
        assert!(parse(&deep).unwrap_err().message.contains("levels deep"));
        assert!(parse(&("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH))).is_ok());
        assert!(parse(&("[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1))).is_err());
        let wide = format!("[{}1]", "1,".repeat(MAX_NODES));
        assert!(parse(&wide).unwrap_err().message.contains("more than"));
        assert!(parse(&"9".repeat(MAX_NUMBER_BYTES + 1)).is_err());
        let keys: Vec<String> = (0..50_000).map(|i| format!("\"{i}\":0")).collect();
        assert!(parse(&format!("{{{}}}", keys.join(","))).is_ok());
        assert!(parse(&format!("{{{},\"7\":1}}", keys.join(","))).is_err());
    }
}
