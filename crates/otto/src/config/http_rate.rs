//! `http_rate`: how often one agent may connect to one host.

use otto_sandbox::ConnectRate;

use super::prices::field;
use crate::decode::{Decoder, Field};
use crate::limits;
use crate::yaml::Node;

const FIELDS: &[Field] = &[BURST, PER_MINUTE];

const BURST: Field = field("burst", NUMBER_FORM);
const PER_MINUTE: Field = field("per_minute", NUMBER_FORM);

const NUMBER_FORM: &str = "a whole number of connections above zero, such as 30";

/// Reads the mapping; what it does not name stays at the default.
pub(super) fn decode(decoder: &mut Decoder<'_>, node: &Node) -> Option<ConnectRate> {
    let fields = decoder.fields(node, "`http_rate`", FIELDS)?;
    let mut rate = ConnectRate::default();
    let mut is_whole = true;
    for (field, into) in [(BURST, &mut rate.burst), (PER_MINUTE, &mut rate.per_minute)] {
        let Some(node) = fields.value(field.name) else {
            continue;
        };
        let number = decoder.value(node, &field, |text| {
            limits::parse_count(text)
                .ok()
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| format!("{} is no such number", crate::diagnostic::quoted(text)))
        });
        match number {
            Some(number) => *into = number,
            None => is_whole = false,
        }
    }
    is_whole.then_some(rate)
}

pub(super) fn shown(rate: &ConnectRate) -> String {
    format!("burst: {}, per_minute: {}", rate.burst, rate.per_minute)
}
