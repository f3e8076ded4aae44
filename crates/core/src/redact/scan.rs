//! The scan: which parts of a text are masked, and how far that is certain.
//!
//! Every source of matches (rule, operator pattern, exact value) is searched in the original text, each on
//! its own; overlapping matches are masked together, under the label of the first. The same code runs over a
//! whole text and over one that is still arriving. In the second case only what no further text can change
//! is decided: everything before the *horizon*, the earliest place from which the rest of the text may be
//! the beginning of a match.
//!
//! A label that is already in the text is a border: nothing is matched across it, and it is not masked. A
//! mask becomes such a border, so a candidate that was dismissed is judged once more when a mask cuts it
//! short or ends before it: a second redaction would see it like that.
//!
//! Invariant: the pieces that come out are the same, joined, however the text is cut.

use std::ops::Range;

use regex::Regex;

use crate::redact::operator::MAX_LINE_PIECE_BYTES;
use crate::redact::plan::{BUILT_IN_BEGINNINGS, Found, Plan};
use crate::redact::rules::{CONTEXT_BYTES, Candidate};
use crate::redact::tail::Tail;

/// Whether the text given is the last of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing follows.
    OfText,
    /// More may follow.
    OfPiece,
}

/// A part of the output.
pub(super) enum Piece<'t> {
    /// A part of the text that stays. `at` is its place in the text.
    Plain { text: &'t str, at: usize },
    /// A label, for a secret that begins `at` this place of the text.
    Masked { kind: usize, at: usize },
}

/// Where a scan stands. All places are counted from the beginning of the whole text.
#[derive(Debug)]
pub(super) struct Scan {
    /// Place of the first byte of the text that is given next.
    base: usize,
    /// Everything before is decided: no later match begins there.
    horizon: usize,
    /// Everything before has been put out or is masked.
    written: usize,
    /// End of what has been put out as masked, if anything was.
    masked_until: Option<usize>,
    /// Masks that are decided and not yet put out, in order.
    masks: Vec<Mask>,
    /// Candidates that were dismissed, and may be judged once more.
    dismissed: Vec<Match>,
    /// At this many they are counted out.
    dismissed_most: usize,
    /// Where each matcher goes on; the exact values come last.
    next: Vec<usize>,
    /// Secrets whose rest is still coming.
    tails: Vec<OpenTail>,
    /// Places that operator patterns do not match across, in order.
    cuts: Vec<usize>,
    /// Labels found in the text, in order.
    labels: Vec<Range<usize>>,
    /// Where the search for labels goes on.
    labels_from: usize,
    /// Where the current line, or the current piece of a long line, begins.
    piece_from: usize,
    /// Up to here the text has been searched for line breaks.
    lines_until: usize,
}

#[derive(Debug)]
struct OpenTail {
    matcher: usize,
    /// What comes next belongs to it from here.
    at: usize,
    tail: Tail,
}

/// A match: a candidate for a mask.
#[derive(Debug, Clone)]
struct Match {
    matcher: usize,
    kind: usize,
    whole: Range<usize>,
    masked: Range<usize>,
}

impl Match {
    /// A match in a text that begins at `base`.
    fn of(found: Found, matcher: usize, kind: usize, base: usize) -> Self {
        let shift = |range: Range<usize>| base + range.start..base + range.end;
        Self {
            matcher,
            kind,
            whole: shift(found.whole),
            masked: shift(found.masked),
        }
    }
}

/// What may belong to a secret behind its match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestOf {
    /// What its tail takes of the text.
    Text,
    /// Nothing: a mask follows.
    Nothing,
}

/// A part of the text that is masked.
#[derive(Debug)]
struct Mask {
    range: Range<usize>,
    kind: usize,
    matcher: usize,
    /// How far this one and those before it reach.
    reach: usize,
}

/// Dismissed candidates are forgotten this far behind the scan: no candidate is longer, and hardly a chain
/// of them.
// BOUND: also of the work for one mask, which looks at each of them.
const DISMISSED_BYTES: usize = 2 * 1024;
/// They are counted out only when there are more than this.
const DISMISSED_KEPT: usize = 128;

impl Scan {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            base: 0,
            horizon: 0,
            written: 0,
            masked_until: None,
            masks: Vec::new(),
            dismissed: Vec::new(),
            dismissed_most: DISMISSED_KEPT,
            next: vec![0; plan.matchers.len() + 1],
            tails: Vec::new(),
            cuts: Vec::new(),
            labels: Vec::new(),
            labels_from: 0,
            piece_from: 0,
            lines_until: 0,
        }
    }

    /// Goes on over `text`, which begins where [`discard`](Self::discard) said, and puts out what is certain.
    pub(super) fn advance<'t>(
        &mut self,
        plan: &Plan,
        text: &'t str,
        end: End,
        out: &mut impl FnMut(Piece<'t>),
    ) {
        let unfinished_label = self.find_labels(plan, text, end);
        if plan.has_operators() {
            self.find_long_lines(text);
        }
        self.take_tails(text);
        let mut horizon = match end {
            End::OfText => self.base + text.len(),
            End::OfPiece => self.find_horizon(plan, text),
        };

        let may_match = plan.sieve.which_may(text);
        let exact = plan.matchers.len();
        let mut matches: Vec<Match> = (0..=exact)
            .filter(|i| {
                *i == exact
                    || may_match.has(*i)
                    || (plan.matchers[*i].is_operators && !self.cuts.is_empty())
            })
            .filter_map(|i| self.find(plan, text, i))
            .collect();
        if end == End::OfText {
            matches.extend(self.find_cut_off(plan, text));
        }
        loop {
            let first = matches
                .iter()
                .enumerate()
                .filter(|(_, found)| found.whole.start < horizon)
                .min_by_key(|(_, found)| {
                    (found.masked.start, found.matcher == exact, found.matcher)
                });
            let Some((slot, _)) = first else { break };
            let found = matches.swap_remove(slot);
            if unfinished_label.is_some_and(|label| found.whole.end >= label) {
                // It may turn out to touch a label.
                horizon = horizon.min(found.whole.start);
                continue;
            }
            let matcher = found.matcher;
            let waits_from = self.decide(plan, text, found);
            if end == End::OfPiece {
                horizon = waits_from.map_or(horizon, |from| horizon.min(from));
            }
            matches.extend(self.find(plan, text, matcher));
        }

        self.horizon = horizon;
        for next in &mut self.next {
            *next = (*next).max(horizon);
        }
        let limit = match end {
            End::OfText => horizon,
            End::OfPiece => self.settle_dismissed(),
        };
        self.put_out(text, limit, out);
    }

    /// Puts out what lies before `limit`, where no mask can be added any more.
    fn put_out<'t>(&mut self, text: &'t str, limit: usize, out: &mut impl FnMut(Piece<'t>)) {
        let plain = |range: Range<usize>, out: &mut dyn FnMut(Piece<'t>)| {
            if !range.is_empty() {
                let text = &text[range.start - self.base..range.end - self.base];
                out(Piece::Plain {
                    text,
                    at: range.start,
                });
            }
        };
        let ready = self.masks.partition_point(|mask| mask.range.start < limit);
        for mask in self.masks.drain(..ready) {
            if self
                .masked_until
                .is_none_or(|until| until <= mask.range.start)
            {
                plain(self.written..mask.range.start, out);
                out(Piece::Masked {
                    kind: mask.kind,
                    at: mask.range.start,
                });
            }
            self.masked_until = self.masked_until.max(Some(mask.range.end));
            self.written = self.written.max(mask.range.end);
        }
        plain(self.written..limit, out);
        self.written = self.written.max(limit);
    }

    /// The place before which no dismissed candidate can be judged again; forgets those before it.
    fn settle_dismissed(&mut self) -> usize {
        self.dismissed
            .sort_by_key(|candidate| candidate.whole.start);
        let mut limit = self.horizon;
        for candidate in self.dismissed.iter().rev() {
            if candidate.whole.end > limit {
                limit = limit.min(candidate.whole.start);
            }
        }
        self.dismissed
            .retain(|candidate| candidate.whole.start >= limit);
        limit
    }

    /// How much of the text given last is no longer needed. The next text begins behind it.
    pub(super) fn discard(&mut self, text: &str) -> usize {
        let tails = self.tails.iter().map(|tail| tail.at);
        let dismissed = self.dismissed.iter().map(|candidate| candidate.whole.start);
        let needed = tails
            .chain(dismissed)
            .chain([self.horizon, self.written])
            .min()
            .unwrap_or(self.horizon);
        let unneeded = text.floor_char_boundary((needed - self.base).saturating_sub(CONTEXT_BYTES));
        self.base += unneeded;
        self.labels.retain(|label| label.end > self.base);
        let last_cut_before = self
            .cuts
            .iter()
            .rposition(|cut| *cut <= self.base)
            .unwrap_or(0);
        self.cuts.drain(..last_cut_before);
        unneeded
    }

    /// Judges a match that is certain, and masks it. Returns the place up to which its rest is known, if
    /// more text is needed to know all of it.
    fn decide(&mut self, plan: &Plan, text: &str, found: Match) -> Option<usize> {
        // Exact values may overlap each other; each is looked for at every place.
        let one_further = text.ceil_char_boundary(found.whole.start - self.base + 1) + self.base;
        let is_exact = found.matcher == plan.matchers.len();
        let follows_mask = self.follows_mask(found.whole.start);
        if self.is_secret(plan, text, &found, follows_mask) {
            self.next[found.matcher] = if is_exact {
                one_further
            } else {
                found.whole.end
            };
            return self.mask(plan, text, found);
        }
        self.next[found.matcher] = one_further;
        if self.dismissed.len() >= self.dismissed_most {
            let forgotten = found.whole.start.saturating_sub(DISMISSED_BYTES);
            self.dismissed
                .retain(|candidate| candidate.whole.end >= forgotten);
            self.dismissed_most = DISMISSED_KEPT.max(2 * self.dismissed.len());
        }
        self.dismissed.push(found);
        None
    }

    /// Masks a secret with its rest, and then what that makes of dismissed candidates.
    fn mask(&mut self, plan: &Plan, text: &str, found: Match) -> Option<usize> {
        let mut waits_from = None;
        let mut secrets = vec![(found, RestOf::Text)];
        while let Some((found, rest)) = secrets.pop() {
            let Match {
                matcher,
                masked: Range { start, mut end },
                ..
            } = found;
            let tail = plan
                .matchers
                .get(matcher)
                .and_then(|matcher| Tail::new(matcher.tail));
            if let (Some(mut tail), RestOf::Text) = (tail, rest) {
                let taken = tail.take(&text[end - self.base..]);
                end += taken.bytes;
                if taken.is_open {
                    self.tails.push(OpenTail {
                        matcher,
                        at: end,
                        tail,
                    });
                    waits_from = Some(waits_from.map_or(end, |from: usize| from.min(end)));
                }
                self.next[matcher] = self.next[matcher].max(end);
            }
            self.add_mask(
                plan,
                Mask {
                    range: start..end,
                    kind: found.kind,
                    matcher,
                    reach: end,
                },
            );

            let mut at = 0;
            while let Some(candidate) = self.dismissed.get(at) {
                match self.judge_again(plan, text, candidate, &(start..end)) {
                    Some(secret) => {
                        self.dismissed.swap_remove(at);
                        secrets.push(secret);
                    }
                    None => at += 1,
                }
            }
        }
        waits_from
    }

    /// Whether a dismissed candidate is a secret now that there is a mask in or right before it.
    fn judge_again(
        &self,
        plan: &Plan,
        text: &str,
        candidate: &Match,
        mask: &Range<usize>,
    ) -> Option<(Match, RestOf)> {
        let whole = &candidate.whole;
        if whole.start < mask.start && mask.start < whole.end {
            let from = whole.start - self.base;
            let found = plan
                .matchers
                .get(candidate.matcher)?
                .find_in(&text[..mask.start - self.base], from)?;
            let cut_short = Match::of(found, candidate.matcher, candidate.kind, self.base);
            let follows_mask = self.follows_mask(whole.start);
            let is_secret = cut_short.whole.start == whole.start
                && self.is_secret(plan, text, &cut_short, follows_mask);
            return is_secret.then_some((cut_short, RestOf::Nothing));
        }
        let follows_mask = mask.start < whole.start && whole.start <= mask.end;
        (follows_mask && self.is_secret(plan, text, candidate, follows_mask))
            .then(|| (candidate.clone(), RestOf::Text))
    }

    fn add_mask(&mut self, plan: &Plan, mask: Mask) {
        // At the same place the label is that of an exact value, then that of the first rule.
        let rank = |mask: &Mask| {
            (
                mask.range.start,
                mask.matcher != plan.matchers.len(),
                mask.matcher,
            )
        };
        let at = self
            .masks
            .partition_point(|known| rank(known) <= rank(&mask));
        self.masks.insert(at, mask);
        self.measure_reach(at);
    }

    fn measure_reach(&mut self, from: usize) {
        let mut reach = from
            .checked_sub(1)
            .map_or(0, |before| self.masks[before].reach);
        for mask in &mut self.masks[from..] {
            reach = reach.max(mask.range.end);
            mask.reach = reach;
        }
    }

    /// Whether a mask begins before `place` and reaches it.
    fn follows_mask(&self, place: usize) -> bool {
        let begun = self.masks.partition_point(|mask| mask.range.start < place);
        self.masked_until >= Some(place)
            || begun
                .checked_sub(1)
                .is_some_and(|last| self.masks[last].reach >= place)
    }

    fn is_secret(&self, plan: &Plan, text: &str, found: &Match, follows_mask: bool) -> bool {
        let next_label = self
            .labels
            .partition_point(|label| label.end <= found.whole.start);
        if self
            .labels
            .get(next_label)
            .is_some_and(|label| label.start < found.whole.end)
        {
            return false;
        }
        let Some(judge) = plan
            .matchers
            .get(found.matcher)
            .and_then(|matcher| matcher.judge)
        else {
            return true;
        };
        let part = |range: &Range<usize>| &text[range.start - self.base..range.end - self.base];
        let context = found
            .whole
            .start
            .saturating_sub(CONTEXT_BYTES)
            .max(self.base);
        let context = text.ceil_char_boundary(context - self.base) + self.base;
        judge(&Candidate {
            before: part(&(context..found.whole.start)),
            matched: part(&found.whole),
            secret: part(&found.masked),
            follows_mask,
        })
    }

    /// Lets the rests of secrets take what belongs to them.
    fn take_tails(&mut self, text: &str) {
        for mut open in std::mem::take(&mut self.tails) {
            let taken = open.tail.take(&text[open.at - self.base..]);
            open.at += taken.bytes;
            self.next[open.matcher] = self.next[open.matcher].max(open.at);
            let from = open.at - taken.bytes;
            let is_its = |mask: &Mask| mask.matcher == open.matcher && mask.range.end == from;
            match self.masks.iter().position(is_its) {
                Some(pending) => {
                    self.masks[pending].range.end = open.at;
                    self.measure_reach(pending);
                }
                None => {
                    self.masked_until = self.masked_until.max(Some(open.at));
                    self.written = self.written.max(open.at);
                }
            }
            if taken.is_open {
                self.tails.push(open);
            }
        }
    }

    /// The earliest place from which more text could make a match.
    fn find_horizon(&self, plan: &Plan, text: &str) -> usize {
        let from = self.horizon - self.base;
        let ends = |regex: &Regex, text: &str, from: usize| {
            regex
                .find_at(text, from)
                .map_or(text.len(), |rest| rest.start())
        };
        let mut horizon = self.base + ends(&BUILT_IN_BEGINNINGS, text, from);
        horizon = horizon.min(self.base + plan.exact.unfinished_from(text, from));
        if plan.has_operators() {
            let line = self
                .cuts
                .last()
                .map_or(0, |cut| cut.saturating_sub(self.base))
                .max(from);
            let unfinished = plan.operator_beginnings.as_ref().map_or_else(
                // Without the pattern of beginnings: the whole line may become a match.
                || text[line..].rfind('\n').map_or(line, |at| line + at + 1),
                |regex| ends(regex, text, line),
            );
            horizon = horizon.min(self.base + unfinished);
        }
        // A rest that waits for its next byte keeps what it has not taken.
        self.tails
            .iter()
            .fold(horizon, |horizon, tail| horizon.min(tail.at))
    }

    /// Finds the labels in the text, which are cuts, and the place of one that may not be complete.
    fn find_labels(&mut self, plan: &Plan, text: &str, end: End) -> Option<usize> {
        let unfinished = match end {
            End::OfText => text.len(),
            End::OfPiece => plan
                .labels
                .unfinished_from(text, self.labels_from - self.base),
        };
        let mut from = self.labels_from - self.base;
        while let Some((label, _)) = plan.labels.find_at(text, from) {
            from = label.end;
            let label = self.base + label.start..self.base + label.end;
            if plan.has_operators() {
                self.cuts.extend([label.start, label.end]);
            }
            self.labels.push(label);
        }
        let unfinished = unfinished.max(from);
        self.labels_from = self.base + unfinished;
        (unfinished < text.len()).then_some(self.base + unfinished)
    }

    /// Cuts lines that are longer than what operator patterns are searched in.
    fn find_long_lines(&mut self, text: &str) {
        let mut added = false;
        loop {
            let line_end = text[self.lines_until - self.base..]
                .find('\n')
                .map(|at| self.lines_until + at);
            let known_until = line_end.unwrap_or(self.base + text.len());
            while known_until - self.piece_from >= MAX_LINE_PIECE_BYTES {
                let cut = text
                    .floor_char_boundary(self.piece_from + MAX_LINE_PIECE_BYTES - self.base)
                    + self.base;
                self.cuts.push(cut);
                self.piece_from = cut;
                added = true;
            }
            let Some(line_end) = line_end else {
                self.lines_until = self.base + text.len();
                break;
            };
            self.piece_from = line_end + 1;
            self.lines_until = line_end + 1;
        }
        if added || !self.labels.is_empty() {
            self.cuts.sort_unstable();
        }
    }

    /// An exact value that the text ends in the middle of.
    fn find_cut_off(&self, plan: &Plan, text: &str) -> Option<Match> {
        let (start, kind) = plan.exact.cut_off(text)?;
        let range = (self.base + start).max(self.horizon)..self.base + text.len();
        Some(Match {
            matcher: plan.matchers.len(),
            kind,
            whole: range.clone(),
            masked: range,
        })
    }

    /// The next match of one source, judged or not.
    fn find(&self, plan: &Plan, text: &str, matcher: usize) -> Option<Match> {
        let from = self.next[matcher].max(self.base) - self.base;
        if from > text.len() {
            return None;
        }
        let Some(source) = plan.matchers.get(matcher) else {
            let (found, kind) = plan.exact.find_at(text, text.ceil_char_boundary(from))?;
            let range = self.base + found.start..self.base + found.end;
            return Some(Match {
                matcher,
                kind,
                whole: range.clone(),
                masked: range,
            });
        };
        if !source.is_operators || self.cuts.is_empty() {
            return Some(Match::of(
                source.find_in(text, from)?,
                matcher,
                source.kind,
                self.base,
            ));
        }
        let begun = self.cuts.partition_point(|cut| *cut <= self.base + from);
        let mut borders = self.cuts[begun..]
            .iter()
            .map(|cut| cut - self.base)
            .filter(|cut| *cut < text.len())
            .chain([text.len()]);
        let mut start = begun
            .checked_sub(1)
            .map_or(0, |last| self.cuts[last].saturating_sub(self.base));
        borders.find_map(|end| {
            let slice = start..end;
            start = end;
            let found =
                source.find_in(&text[slice.clone()], from.max(slice.start) - slice.start)?;
            Some(Match::of(
                found,
                matcher,
                source.kind,
                self.base + slice.start,
            ))
        })
    }
}
