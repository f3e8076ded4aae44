//! Runs a parsed path over a tree.

use std::cell::Cell;
use std::cmp::Ordering;

use super::{
    Comparison, Found, MAX_RESULTS, MAX_STEPS, Operand, Refused, Segment, Selector, SubQuery, Test,
    Way,
};
use crate::data::Node;

/// The document, and what one evaluation has cost so far.
struct Run<'a, 'f> {
    root: &'a Node,
    steps: Cell<usize>,
    alive: &'f dyn Fn() -> bool,
}

/// A value and the way to it.
type Place<'a> = (Way<'a>, &'a Node);

pub(super) fn run<'a>(
    root: &'a Node,
    segments: &[Segment],
    alive: &dyn Fn() -> bool,
) -> Result<Found<'a>, Refused> {
    let run = Run {
        root,
        steps: Cell::new(0),
        alive,
    };
    run.walk((Way::root(), root), segments)
}

impl<'a> Run<'a, '_> {
    fn step(&self) -> Result<(), Refused> {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps > MAX_STEPS {
            return Err(format!(
                "the query visits more than {MAX_STEPS} values; ask for less at once"
            ));
        }
        if steps.is_multiple_of(4096) && !(self.alive)() {
            return Err("the query took longer than the call may".to_owned());
        }
        Ok(())
    }

    fn walk(&self, start: Place<'a>, segments: &[Segment]) -> Result<Vec<Place<'a>>, Refused> {
        let mut here = vec![start];
        for segment in segments {
            let mut next = Vec::new();
            for place in here {
                if segment.descends {
                    self.descend(place, &segment.selectors, &mut next)?;
                } else {
                    self.select(&place, &segment.selectors, &mut next)?;
                }
            }
            here = next;
        }
        Ok(here)
    }

    /// Applies the selectors to a value and to everything below it, parents first.
    fn descend(
        &self,
        place: Place<'a>,
        selectors: &[Selector],
        found: &mut Vec<Place<'a>>,
    ) -> Result<(), Refused> {
        self.select(&place, selectors, found)?;
        for child in children(&place) {
            self.step()?;
            if matches!(child.1, Node::List(_) | Node::Map(_)) {
                self.descend(child, selectors, found)?;
            }
        }
        Ok(())
    }

    fn select(
        &self,
        place: &Place<'a>,
        selectors: &[Selector],
        found: &mut Vec<Place<'a>>,
    ) -> Result<(), Refused> {
        for selector in selectors {
            self.step()?;
            match selector {
                Selector::Name(name) => found.extend(
                    place
                        .1
                        .entry(name)
                        .map(|(key, node)| (place.0.key(key), node)),
                ),
                Selector::Index(index) => {
                    if let Node::List(items) = place.1
                        && let Some(at) = absolute(*index, items.len())
                        && let Some(node) = items.get(at)
                    {
                        found.push((place.0.index(at), node));
                    }
                }
                Selector::All => {
                    for child in children(place) {
                        self.step()?;
                        found.push(child);
                    }
                }
                Selector::Slice { start, end, step } => {
                    if let Node::List(items) = place.1 {
                        for at in slice(items.len(), *start, *end, *step) {
                            self.step()?;
                            found.push((place.0.index(at), &items[at]));
                        }
                    }
                }
                Selector::Filter(test) => {
                    for child in children(place) {
                        self.step()?;
                        if self.holds(test, child.1)? {
                            found.push(child);
                        }
                    }
                }
            }
            if found.len() > MAX_RESULTS {
                return Err(format!(
                    "the query finds more than {MAX_RESULTS} values; ask for less at once"
                ));
            }
        }
        Ok(())
    }

    fn holds(&self, test: &Test, current: &'a Node) -> Result<bool, Refused> {
        self.step()?;
        match test {
            Test::Any(tests) => {
                for test in tests {
                    if self.holds(test, current)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Test::Every(tests) => {
                for test in tests {
                    if !self.holds(test, current)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Test::Not(test) => Ok(!self.holds(test, current)?),
            Test::Exists(query) => Ok(!self.query(query, current)?.is_empty()),
            Test::Compare { left, how, right } => {
                let left = self.value(left, current)?;
                let right = self.value(right, current)?;
                self.compare(left.as_deref(), *how, right.as_deref())
            }
            Test::Matches { text, pattern } => {
                let text = self.value(text, current)?;
                let Some(Node::Text(text)) = text.as_deref() else {
                    return Ok(false);
                };
                Ok(pattern.is_match(text))
            }
        }
    }

    fn query(&self, query: &SubQuery, current: &'a Node) -> Result<Vec<Place<'a>>, Refused> {
        self.walk(
            (
                Way::root(),
                if query.from_root { self.root } else { current },
            ),
            &query.segments,
        )
    }

    fn value<'v>(
        &self,
        operand: &'v Operand,
        current: &'a Node,
    ) -> Result<Option<Value<'v>>, Refused>
    where
        'a: 'v,
    {
        Ok(match operand {
            Operand::Literal(node) => Some(Value::Borrowed(node)),
            Operand::Single(query) => self
                .query(query, current)?
                .first()
                .map(|(_, node)| Value::Borrowed(node)),
            Operand::Value(query) => match self.query(query, current)?.as_slice() {
                [(_, node)] => Some(Value::Borrowed(node)),
                _ => None,
            },
            Operand::Count(query) => Some(number(self.query(query, current)?.len())),
            Operand::Length(operand) => match self.value(operand, current)?.as_deref() {
                Some(Node::Text(text)) => Some(number(text.chars().count())),
                Some(Node::List(items)) => Some(number(items.len())),
                Some(Node::Map(entries)) => Some(number(entries.len())),
                _ => None,
            },
        })
    }

    /// RFC 9535, section 2.3.5.2.2: nothing equals nothing, and only numbers and texts have an order.
    fn compare(
        &self,
        left: Option<&Node>,
        how: Comparison,
        right: Option<&Node>,
    ) -> Result<bool, Refused> {
        let equal = || match (left, right) {
            (None, None) => Ok(true),
            (Some(left), Some(right)) => self.equal(left, right),
            _ => Ok(false),
        };
        let order = || match (left, right) {
            (Some(Node::Number(left)), Some(Node::Number(right))) => Some(by_value(left, right)),
            (Some(Node::Text(left)), Some(Node::Text(right))) => Some(left.cmp(right)),
            _ => None,
        };
        Ok(match how {
            Comparison::Equal => equal()?,
            Comparison::NotEqual => !equal()?,
            Comparison::Less => order() == Some(Ordering::Less),
            Comparison::Greater => order() == Some(Ordering::Greater),
            Comparison::LessOrEqual => order() == Some(Ordering::Less) || equal()?,
            Comparison::GreaterOrEqual => order() == Some(Ordering::Greater) || equal()?,
        })
    }

    fn equal(&self, left: &Node, right: &Node) -> Result<bool, Refused> {
        self.step()?;
        Ok(match (left, right) {
            (Node::Number(left), Node::Number(right)) => by_value(left, right) == Ordering::Equal,
            (Node::List(left), Node::List(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (left, right) in left.iter().zip(right) {
                    if !self.equal(left, right)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Node::Map(left), Node::Map(right_entries)) => {
                if left.len() != right_entries.len() {
                    return Ok(false);
                }
                for (key, value) in left {
                    // Looking a key up is as long as the mapping.
                    self.steps.set(self.steps.get() + right_entries.len());
                    match right.get(key) {
                        Some(other) if self.equal(value, other)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            _ => left == right,
        })
    }
}

/// A value of the tree or one that was computed.
enum Value<'v> {
    Borrowed(&'v Node),
    Owned(Node),
}

impl std::ops::Deref for Value<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Self::Borrowed(node) => node,
            Self::Owned(node) => node,
        }
    }
}

fn number<'v>(value: usize) -> Value<'v> {
    Value::Owned(Node::Number(value.to_string().into()))
}

/// Exact for integers, as doubles for the rest.
fn by_value(left: &str, right: &str) -> Ordering {
    if let (Ok(left), Ok(right)) = (left.parse::<i128>(), right.parse::<i128>()) {
        return left.cmp(&right);
    }
    let (left, right) = (
        left.parse::<f64>().unwrap_or(0.0),
        right.parse::<f64>().unwrap_or(0.0),
    );
    left.partial_cmp(&right).unwrap_or(Ordering::Equal)
}

fn children<'a>(place: &Place<'a>) -> Vec<Place<'a>> {
    match place.1 {
        Node::List(items) => items
            .iter()
            .enumerate()
            .map(|(at, node)| (place.0.index(at), node))
            .collect(),
        Node::Map(entries) => entries
            .iter()
            .map(|(key, node)| (place.0.key(key), node))
            .collect(),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => Vec::new(),
    }
}

fn absolute(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    usize::try_from(if index < 0 { len + index } else { index }).ok()
}

/// RFC 9535, section 2.3.4.2.2.
fn slice(len: usize, start: Option<i64>, end: Option<i64>, step: i64) -> Vec<usize> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let normal = |index: i64| if index < 0 { len + index } else { index };
    let mut indexes = Vec::new();
    let mut push = |at: i64| indexes.extend(usize::try_from(at).ok());
    if step > 0 {
        let mut at = normal(start.unwrap_or(0)).clamp(0, len);
        let upper = normal(end.unwrap_or(len)).clamp(0, len);
        while at < upper {
            push(at);
            at = at.saturating_add(step);
        }
    } else if step < 0 {
        let mut at = normal(start.unwrap_or(len - 1)).clamp(-1, len - 1);
        let lower = end.map_or(-1, |end| normal(end).clamp(-1, len - 1));
        while lower < at {
            push(at);
            at = at.saturating_add(step);
        }
    }
    indexes
}
