//! Queries: JSON Pointer (RFC 6901) and JSONPath (RFC 9535).
//!
//! JSONPath is complete but for one point: the patterns of `match` and `search` are string literals, so that they
//! are compiled once and refused before anything runs. Evaluation counts its steps; a query that multiplies
//! ends in an error instead of eating time.
//!
//! Invariant: a query never visits more than [`MAX_STEPS`] values.

mod eval;
mod parse;
mod way;

use super::Node;

// BOUND: a query is written by a model for one question.
const MAX_QUERY_BYTES: usize = 4 * 1024;

// BOUND: values visited by one query: a few times the largest document.
const MAX_STEPS: usize = 5_000_000;

// BOUND: values in one result.
const MAX_RESULTS: usize = 100_000;

// BOUND: brackets, parentheses and filters inside each other.
const MAX_NESTING: usize = 32;

// BOUND: memory of one compiled pattern.
const MAX_REGEX_BYTES: usize = 1024 * 1024;

pub(crate) use way::Way;

/// What a query found: where and what.
pub(crate) type Found<'a> = Vec<(Way<'a>, &'a Node)>;

/// Why a query is not valid or could not be carried out.
pub(crate) type Refused = String;

/// A query that has been checked.
pub(crate) enum Query {
    Pointer(Vec<String>),
    Path(Vec<Segment>),
}

impl Query {
    /// A text that is empty or begins with `/` is a pointer, one that begins with `$` a path.
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > MAX_QUERY_BYTES {
            return Err(format!("the query has more than {MAX_QUERY_BYTES} bytes"));
        }
        if text.starts_with('$') {
            return parse::path(text).map(Self::Path);
        }
        if text.is_empty() || text.starts_with('/') {
            return pointer(text).map(Self::Pointer);
        }
        Err("a query is a JSON Pointer such as `/users/0/name` or a JSONPath such as `$.users[*].name`".to_owned())
    }

    /// Runs the query. `alive` is asked now and then whether to go on.
    pub(crate) fn run<'a>(
        &self,
        root: &'a Node,
        alive: &dyn Fn() -> bool,
    ) -> Result<Found<'a>, Refused> {
        match self {
            // Nobody needs to be told the way that they have given.
            Self::Pointer(keys) => follow(root, keys).map(|node| vec![(Way::root(), node)]),
            Self::Path(segments) => eval::run(root, segments, alive),
        }
    }
}

fn pointer(text: &str) -> Result<Vec<String>, Refused> {
    let mut keys = Vec::new();
    for key in text.split('/').skip(1) {
        let mut rest = key;
        let mut plain = String::with_capacity(key.len());
        while let Some(at) = rest.find('~') {
            plain.push_str(&rest[..at]);
            plain.push(match rest.as_bytes().get(at + 1) {
                Some(b'0') => '~',
                Some(b'1') => '/',
                _ => {
                    return Err(
                        "in a JSON Pointer `~` is written `~0` and `/` in a key `~1`".to_owned(),
                    );
                }
            });
            rest = &rest[at + 2..];
        }
        plain.push_str(rest);
        keys.push(plain);
    }
    Ok(keys)
}

fn shown(keys: &[String]) -> String {
    keys.iter()
        .map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1")))
        .collect()
}

/// Follows a pointer and says where it ends if it does.
fn follow<'a>(root: &'a Node, keys: &[String]) -> Result<&'a Node, Refused> {
    let mut here = root;
    for (depth, key) in keys.iter().enumerate() {
        let next = match here {
            Node::Map(_) => here.get(key),
            Node::List(items) if is_index(key) => {
                key.parse::<usize>().ok().and_then(|index| items.get(index))
            }
            _ => None,
        };
        let Some(next) = next else {
            let place = crate::text::quote(&shown(&keys[..depth]));
            let at = if depth == 0 {
                "the document".to_owned()
            } else {
                place
            };
            return Err(format!(
                "{at} {} {}",
                describe(here),
                crate::text::quote(key)
            ));
        };
        here = next;
    }
    Ok(here)
}

fn is_index(key: &str) -> bool {
    key == "0"
        || !key.starts_with('0') && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit())
}

// BOUND: keys named when one is missing.
const MAX_NAMED_KEYS: usize = 20;

fn describe(node: &Node) -> String {
    match node {
        Node::Map(entries) if entries.is_empty() => "is an empty object, so it has no".to_owned(),
        Node::Map(entries) => {
            let keys: Vec<String> = entries
                .iter()
                .take(MAX_NAMED_KEYS)
                .map(|(key, _)| crate::text::quote(key))
                .collect();
            let more = if entries.len() > MAX_NAMED_KEYS {
                ", ..."
            } else {
                ""
            };
            format!("has the keys {}{more}, but no", keys.join(", "))
        }
        Node::List(items) => format!(
            "is an array of {}, and has no",
            crate::text::count(items.len(), "value", "values")
        ),
        other => format!("is a {}, and has no", other.kind()),
    }
}

/// One step of a path.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Whether it applies to all values below as well (`..`).
    descends: bool,
    selectors: Vec<Selector>,
}

#[derive(Debug, Clone)]
enum Selector {
    Name(String),
    All,
    Index(i64),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Filter(Test),
}

/// A condition of a filter.
#[derive(Debug, Clone)]
enum Test {
    Any(Vec<Test>),
    Every(Vec<Test>),
    Not(Box<Test>),
    Exists(SubQuery),
    Compare {
        left: Operand,
        how: Comparison,
        right: Operand,
    },
    /// `match` (the whole text) or `search` (a part of it).
    Matches {
        text: Operand,
        pattern: regex::Regex,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Something with at most one value.
#[derive(Debug, Clone)]
enum Operand {
    Literal(Node),
    /// A query that can find one value at most.
    Single(SubQuery),
    Length(Box<Operand>),
    Count(SubQuery),
    Value(SubQuery),
}

/// A query within a filter.
#[derive(Debug, Clone)]
struct SubQuery {
    /// Whether it starts at the document (`$`) and not at the current value (`@`).
    from_root: bool,
    segments: Vec<Segment>,
}

impl SubQuery {
    fn is_single(&self) -> bool {
        self.segments.iter().all(|segment| {
            !segment.descends
                && matches!(
                    segment.selectors.as_slice(),
                    [Selector::Name(_) | Selector::Index(_)]
                )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::json_print::{Style, print};
    use super::super::json_text;
    use super::*;

    const STORE: &str = r#"{"store":{"book":[
        {"category":"reference","author":"Rees","title":"Sayings","price":8.95},
        {"category":"fiction","author":"Waugh","title":"Sword","price":12.99},
        {"category":"fiction","author":"Melville","title":"Moby Dick","isbn":"0-553","price":8.99},
        {"category":"fiction","author":"Tolkien","title":"The Lord","isbn":"0-395","price":22.99}],
        "bicycle":{"color":"red","price":399}}, "a b": {"c/d": [1, 2, 3, 4, 5], "~": null}}"#;

    fn ask(document: &str, query: &str) -> Result<String, String> {
        let node = json_text::parse(document).unwrap();
        let found = Query::parse(query)?.run(&node, &|| true)?;
        let values: Vec<String> = found
            .iter()
            .map(|(_, node)| print(node, Style::Compact, usize::MAX).text)
            .collect();
        Ok(values.join(" "))
    }

    #[test]
    fn pointers() {
        for (query, answer) in [
            ("/store/book/0/author", "\"Rees\""),
            ("/a b/c~1d/4", "5"),
            ("/a b/~0", "null"),
            ("/store/bicycle", r#"{"color":"red","price":399}"#),
        ] {
            assert_eq!(ask(STORE, query).as_deref(), Ok(answer), "{query}");
        }
        assert_eq!(ask("7", "").as_deref(), Ok("7"));
        for (query, part) in [
            (
                "/shop",
                "the document has the keys `store`, `a b`, but no `shop`",
            ),
            (
                "/store/book/4",
                "`/store/book` is an array of 4 values, and has no `4`",
            ),
            ("/store/book/01", "has no `01`"),
            ("/store/book/-", "has no `-`"),
            ("/store/bicycle/color/x", "is a string, and has no `x`"),
            ("/a~2", "`~0`"),
            ("store", "a query is a JSON Pointer"),
        ] {
            let error = ask(STORE, query).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
    }

    #[test]
    fn paths_select_as_the_standard_says() {
        for (query, answer) in [
            (
                "$.store.book[*].author",
                r#""Rees" "Waugh" "Melville" "Tolkien""#,
            ),
            ("$..author", r#""Rees" "Waugh" "Melville" "Tolkien""#),
            ("$.store..price", "8.95 12.99 8.99 22.99 399"),
            ("$..book[2].title", r#""Moby Dick""#),
            ("$..book[-1].title", r#""The Lord""#),
            ("$..book[0,1].price", "8.95 12.99"),
            ("$..book[:2].price", "8.95 12.99"),
            ("$..book[?@.isbn].price", "8.99 22.99"),
            ("$..book[?(@.price < 10)].title", r#""Sayings" "Moby Dick""#),
            (
                "$.store.book[?@.price < 10 && @.category == 'fiction'].title",
                r#""Moby Dick""#,
            ),
            ("$.store.book[?!@.isbn].author", r#""Rees" "Waugh""#),
            ("$['a b']['c/d'][1:4:2]", "2 4"),
            ("$['a b'][\"c/d\"][::-1]", "5 4 3 2 1"),
            ("$['a b']['c/d'][-2:]", "4 5"),
            ("$['a b']['c/d'][5:0:-2]", "5 3"),
            ("$['a b']['c/d'][0:0]", ""),
            ("$['a b']['c/d'][::0]", ""),
            ("$['a b']['~']", "null"),
            ("$.store.book[?length(@.title) > 8].title", r#""Moby Dick""#),
            (
                "$.store.book[?match(@.author, '.*e')].author",
                r#""Melville""#,
            ),
            (
                "$.store.book[?search(@.author, 'k')].author",
                r#""Tolkien""#,
            ),
            ("$[?count(@.*) == 2].bicycle.color", r#""red""#),
            (
                "$.store.book[?value(@..isbn) == '0-395'].title",
                r#""The Lord""#,
            ),
            (
                "$.store.book[?@.price == $.store.book[0].price].title",
                r#""Sayings""#,
            ),
            (
                "$.store.book[?@.nothing == @.nowhere].price",
                "8.95 12.99 8.99 22.99",
            ),
            ("$.store[?@.color == 'red' || @.x].price", "399"),
            ("$.nothing", ""),
            ("$.store.book.author", ""),
            ("$..*[?@ > 300]", "399"),
        ] {
            assert_eq!(ask(STORE, query).as_deref(), Ok(answer), "{query}");
        }
        assert_eq!(
            ask(
                "[1, 1.0, 10e-1, \"1\", true, null, 9007199254740993, 9007199254740992]",
                "$[?@ == 1]"
            )
            .unwrap(),
            "1 1.0 10e-1"
        );
        assert_eq!(
            ask(
                "[9007199254740993, 9007199254740992]",
                "$[?@ == 9007199254740993]"
            )
            .unwrap(),
            "9007199254740993"
        );
        assert_eq!(
            ask("[\"b\", \"a\", \"ab\"]", "$[?@ > 'a']").unwrap(),
            r#""b" "ab""#
        );
        assert_eq!(ask("[[1],[2]]", "$[?@ == $[1]]").unwrap(), "[2]");
        assert_eq!(
            ask(r#"{"a":{"x":1,"y":2},"b":{"y":2,"x":1}}"#, "$[?@ == $.a]").unwrap(),
            r#"{"x":1,"y":2} {"y":2,"x":1}"#
        );
        assert_eq!(ask(r#"{"é":1,"\u2028":2}"#, "$.é").unwrap(), "1");
        assert_eq!(ask(r#"{"a'b":1}"#, r"$['a\'b']").unwrap(), "1");
        assert_eq!(
            ask(r#"{"a":[{"b":1},{"b":2}]}"#, "$.a[?@.b>=2].b").unwrap(),
            "2"
        );
    }

    #[test]
    fn results_say_where_they_are() {
        let node = json_text::parse(STORE).unwrap();
        let found = Query::parse("$..[?@ == 'red' || @ == 4]")
            .unwrap()
            .run(&node, &|| true)
            .unwrap();
        let places: Vec<String> = found.iter().map(|(way, _)| way.show(100)).collect();
        assert_eq!(places, ["$.store.bicycle.color", "$['a b']['c/d'][3]"]);
    }

    #[test]
    fn what_is_not_a_path_is_refused_with_its_place() {
        for query in [
            "$.",
            "$..",
            "$[",
            "$[]",
            "$['a'",
            "$['a",
            "$[1",
            "$[01]",
            "$[-0]",
            "$[1:2:3:4]",
            "$a",
            "$.1a",
            "$[?]",
            "$[?@.a ==]",
            "$[?@.a == @.*]",
            "$[?length(@.*) == 1]",
            "$[?count(1) == 1]",
            "$[?foo(@)]",
            "$[?match(@.a, @.b)]",
            "$[?match(@.a, '(')]",
            "$[?1 == ]",
            "$[?'a']",
            "$[?@.a = 1]",
            "$ .a b",
            "$[9007199254740992]",
            "$[?@.a == 01]",
            "$['\\x']",
            "$[?(@.a]",
            "$.a ",
            "$[?length(@.a)]",
            "$[?match(@.a,'b') == true]",
        ] {
            let error = ask(STORE, query).unwrap_err();
            assert!(error.contains("character"), "{query}: {error}");
        }
        assert!(
            ask(
                STORE,
                &format!("$[?{}@.a{}]", "(".repeat(40), ")".repeat(40))
            )
            .unwrap_err()
            .contains("nested")
        );
        assert!(
            ask(STORE, &("$".to_owned() + &".a".repeat(3_000)))
                .unwrap_err()
                .contains("bytes")
        );
    }

    #[test]
    fn queries_that_multiply_end() {
        let mut deep = "1".to_owned();
        for _ in 0..50 {
            deep = format!("[{deep},{deep:.0}1]");
        }
        let answer = ask(&deep, "$..*..*..*..*..*..*");
        assert!(answer.is_ok() || answer.unwrap_err().contains("values"));
        let wide = format!("[{}1]", "1,".repeat(5_000));
        let error = ask(&wide, "$[?count($[?count($.*) > 1]) > 1]").unwrap_err();
        assert!(error.contains("visits more than"), "{error}");
        let error = ask(&wide, &format!("$[*]{}", ""))
            .map(drop)
            .and(ask(&wide, &format!("$[{}0]", "*,".repeat(30))))
            .unwrap_err();
        assert!(error.contains("more than 100000 values"), "{error}");
    }
}
