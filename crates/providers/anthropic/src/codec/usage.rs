//! Token counts over the life of a reply.
//!
//! The vendor sends the prompt's counts with `message_start` and cumulative counts with each
//! `message_delta`. Gateways repeat them, drop them or let them fall, so each counter keeps the largest value
//! it has seen and nothing is ever added up.
//!
//! Invariant: a usage that is reported as final covers everything the provider said it would bill, and can
//! be priced by token classes alone. When that is not certain there is none, and the hold is charged.

use otto_core::model::Usage;
use serde_json::value::RawValue;

use crate::codec::reply::MAX_BYTES_PER_TOKEN;
use crate::codec::wire::{
    CacheCreation, Count, OutputDetails, ServerToolUse, WireUsage, lenient, string,
};

/// The counters of one reply.
#[derive(Debug, Default)]
pub(super) struct UsageMeter {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: u64,
    cache_write: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
    thinking: u64,
    /// Something was said that cannot be trusted or priced.
    uncertain: bool,
    /// The operator pays the regional surcharge anyway.
    surcharged: bool,
}

impl UsageMeter {
    pub(super) fn new(surcharged: bool) -> Self {
        Self {
            surcharged,
            ..Self::default()
        }
    }

    /// Takes the usage of `message_start`. Its output count is a placeholder.
    pub(super) fn start(&mut self, raw: Option<&RawValue>) {
        self.merge(raw);
    }

    /// Takes the usage of a `message_delta`.
    pub(super) fn delta(&mut self, raw: Option<&RawValue>) {
        if let Some(tokens) = self.merge(raw) {
            self.output = Some(self.output.unwrap_or(0).max(tokens));
        }
    }

    /// Marks the usage as one that cannot be priced by the requested model's table.
    pub(super) fn distrust(&mut self) {
        self.uncertain = true;
    }

    /// What is known so far.
    pub(super) fn so_far(&self) -> Usage {
        let split = self.cache_write_5m.saturating_add(self.cache_write_1h);
        // Writes whose lifetime is not told are priced as the dearer class.
        let untold = self.cache_write.saturating_sub(split);
        Usage {
            input_tokens: self.input.unwrap_or(0),
            output_tokens: self.output.unwrap_or(0),
            cache_read_tokens: self.cache_read,
            cache_write_5m_tokens: self.cache_write_5m,
            cache_write_1h_tokens: self.cache_write_1h.saturating_add(untold),
            thinking_tokens: self.thinking,
        }
    }

    /// The final usage, if it is complete and believable for a reply of so many bytes of output.
    pub(super) fn finished(&self, output_bytes: u64) -> Option<Usage> {
        let (Some(_), Some(output)) = (self.input, self.output) else {
            return None;
        };
        let usage = self.so_far();
        let is_understated = output.saturating_mul(MAX_BYTES_PER_TOKEN) < output_bytes;
        let is_believable = !self.uncertain && usage.prompt_tokens() > 0 && !is_understated;
        is_believable.then_some(usage)
    }

    /// Takes a usage record and returns its output count.
    fn merge(&mut self, raw: Option<&RawValue>) -> Option<u64> {
        let raw = raw?;
        let Ok(usage) = serde_json::from_str::<WireUsage<'_>>(raw.get()) else {
            self.uncertain = true;
            return None;
        };
        if let Some(tokens) = self.tokens(usage.input_tokens) {
            self.input = Some(self.input.unwrap_or(0).max(tokens));
        }
        self.cache_read = self
            .cache_read
            .max(self.tokens(usage.cache_read_input_tokens).unwrap_or(0));
        self.cache_write = self
            .cache_write
            .max(self.tokens(usage.cache_creation_input_tokens).unwrap_or(0));
        if let Some(raw) = usage.cache_creation {
            let split = lenient::<CacheCreation>(Some(raw));
            self.uncertain |= split.is_none();
            let split = split.unwrap_or_default();
            let five_minutes = self.tokens(split.ephemeral_5m_input_tokens).unwrap_or(0);
            let one_hour = self.tokens(split.ephemeral_1h_input_tokens).unwrap_or(0);
            self.cache_write_5m = self.cache_write_5m.max(five_minutes);
            self.cache_write_1h = self.cache_write_1h.max(one_hour);
        }
        if let Some(details) = lenient::<OutputDetails>(usage.output_tokens_details)
            && let Count::Tokens(tokens) = details.thinking_tokens
        {
            self.thinking = self.thinking.max(tokens);
        }
        let searched = lenient::<ServerToolUse>(usage.server_tool_use).is_some_and(|used| {
            !matches!(used.web_search_requests, Count::Absent | Count::Tokens(0))
        });
        let is = |raw: Option<&RawValue>, word: &str| {
            raw.and_then(string).is_some_and(|text| text == word)
        };
        let dearer_region = is(usage.inference_geo, "us") && !self.surcharged;
        self.uncertain |= searched || dearer_region || is(usage.speed, "fast");
        self.tokens(usage.output_tokens)
    }

    fn tokens(&mut self, count: Count) -> Option<u64> {
        match count {
            Count::Tokens(tokens) => Some(tokens),
            Count::Absent => None,
            Count::Nonsense => {
                self.uncertain = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        serde_json::from_str(json).unwrap()
    }

    /// The final usage of a stream with this start and these deltas and 100 bytes of output.
    fn finished(start: &str, deltas: &[&str]) -> Option<Usage> {
        let mut meter = UsageMeter::default();
        meter.start(Some(&raw(start)));
        for delta in deltas {
            meter.delta(Some(&raw(delta)));
        }
        meter.finished(100)
    }

    #[test]
    fn counters_keep_their_maximum() {
        let usage = finished(
            r#"{"input_tokens":5,"output_tokens":1,"cache_read_input_tokens":7}"#,
            &[
                r#"{"output_tokens":30}"#,
                r#"{"output_tokens":30,"input_tokens":9}"#,
                r#"{"output_tokens":20}"#,
            ],
        );
        let expected = Usage {
            input_tokens: 9,
            output_tokens: 30,
            cache_read_tokens: 7,
            ..Usage::default()
        };
        assert_eq!(usage, Some(expected));
    }

    #[test]
    fn writes_of_untold_lifetime_count_as_one_hour() {
        let usage = finished(
            r#"{"input_tokens":1,"cache_creation_input_tokens":10,"cache_creation":{"ephemeral_5m_input_tokens":4}}"#,
            &[r#"{"output_tokens":9}"#],
        )
        .unwrap();
        assert_eq!(
            (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens),
            (4, 6)
        );
    }

    #[test]
    fn null_is_zero_and_missing_output_is_unknown() {
        let nulls = r#"{"input_tokens":3,"cache_creation_input_tokens":null,"cache_read_input_tokens":null}"#;
        assert!(finished(nulls, &[r#"{"output_tokens":9}"#]).is_some());
        assert_eq!(finished(nulls, &[]), None);
        assert_eq!(finished(nulls, &[r#"{"output_tokens":null}"#]), None);
        assert_eq!(
            finished(r#"{"output_tokens":1}"#, &[r#"{"output_tokens":9}"#]),
            None
        );
    }

    #[test]
    fn a_placeholder_is_not_a_count() {
        assert_eq!(
            finished(r#"{"input_tokens":3,"output_tokens":4}"#, &["{}"]),
            None
        );
    }

    #[test]
    fn nonsense_is_as_good_as_missing() {
        for value in [
            "-1",
            "1.5",
            "\"9\"",
            "18446744073709551616",
            "[]",
            "{\"a\":1}",
            "true",
        ] {
            for field in [
                "input_tokens",
                "output_tokens",
                "cache_read_input_tokens",
                "cache_creation_input_tokens",
            ] {
                let delta =
                    format!("{{\"output_tokens\":9,\"input_tokens\":3,\"{field}\":{value}}}");
                let delta = if matches!(field, "output_tokens" | "input_tokens") {
                    format!("{{\"{field}\":{value}}}")
                } else {
                    delta
                };
                assert_eq!(
                    finished(r#"{"input_tokens":3}"#, &[&delta]),
                    None,
                    "{delta}"
                );
            }
        }
        assert_eq!(finished(r#"{"input_tokens":3}"#, &["[]"]), None);
        assert_eq!(
            finished("\"none\"", &[r#"{"input_tokens":3,"output_tokens":9}"#]),
            None
        );
    }

    #[test]
    fn what_tokens_alone_do_not_price_is_uncertain() {
        let delta = r#"{"output_tokens":9}"#;
        for start in [
            r#"{"input_tokens":3,"server_tool_use":{"web_search_requests":1}}"#,
            r#"{"input_tokens":3,"inference_geo":"us"}"#,
            r#"{"input_tokens":3,"speed":"fast"}"#,
        ] {
            assert_eq!(finished(start, &[delta]), None, "{start}");
        }
        for start in [
            r#"{"input_tokens":3,"server_tool_use":{"web_search_requests":0}}"#,
            r#"{"input_tokens":3,"inference_geo":"not_available","speed":"standard"}"#,
        ] {
            assert!(finished(start, &[delta]).is_some(), "{start}");
        }
        let mut surcharged = UsageMeter::new(true);
        surcharged.start(Some(&raw(r#"{"input_tokens":3,"inference_geo":"us"}"#)));
        surcharged.delta(Some(&raw(delta)));
        assert!(surcharged.finished(0).is_some());
    }

    #[test]
    fn counts_below_what_arrived_are_not_believed() {
        let mut meter = UsageMeter::default();
        meter.start(Some(&raw(r#"{"input_tokens":3}"#)));
        meter.delta(Some(&raw(r#"{"output_tokens":2}"#)));
        assert!(meter.finished(2 * MAX_BYTES_PER_TOKEN).is_some());
        assert_eq!(meter.finished(2 * MAX_BYTES_PER_TOKEN + 1), None);
        let mut free = UsageMeter::default();
        free.start(Some(&raw(r#"{"input_tokens":0}"#)));
        free.delta(Some(&raw(r#"{"output_tokens":0}"#)));
        assert_eq!(free.finished(0), None, "no prompt is empty");
    }
}
