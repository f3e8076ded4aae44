//! Otto's usage beside the provider's: what differs, and what that difference means.
//!
//! A pure comparison. A call without a usage record was charged at its hold, so the provider may have billed
//! anything from nothing up to that hold for it; a difference within that is expected and no drift.
//!
//! Invariant: rows that are on one side only are compared with zero, never left out.

use std::collections::{BTreeMap, BTreeSet};

use otto_anthropic::{Export, ExportError, ExportForm, read_export};
use otto_core::model::{ModelSpec, PriceTable, Usage};
use otto_core::port::store::{UsageGroup, UsageSum};
use otto_core::{ModelId, Money};

/// One day and model on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The UTC day, as `2026-11-28`.
    pub day: String,
    /// The model, as the price table names it if it knows it.
    pub model: String,
    /// Calls that Otto knows of, and of these those without a usage record.
    pub calls: u64,
    /// See `calls`.
    pub unconfirmed_calls: u64,
    /// Charged by Otto for calls with a usage record.
    pub confirmed: Money,
    /// Charged at their hold for those without.
    pub unconfirmed: Money,
    /// What the provider says it costs; by the price table where its export tells tokens only.
    pub provider: Money,
    /// What that means.
    pub standing: Standing,
}

/// What a difference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Both say the same.
    Same,
    /// The provider's amount is within what unconfirmed calls can explain.
    Explained,
    /// The provider says more than Otto can explain: other users of the key, or a wrong price.
    More,
    /// The provider says less than Otto has usage records for.
    Less,
}

impl Standing {
    /// `same`, `explained`, `more` or `less`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Explained => "explained",
            Self::More => "more",
            Self::Less => "less",
        }
    }

    /// Whether somebody should look into it.
    #[must_use]
    pub const fn is_drift(self) -> bool {
        matches!(self, Self::More | Self::Less)
    }
}

impl Compared {
    /// The provider's amount above what Otto charged for calls with a usage record; below it, negative.
    #[must_use]
    pub fn drift_picodollars(&self) -> i64 {
        let drift =
            i128::from(self.provider.picodollars()) - i128::from(self.confirmed.picodollars());
        i64::try_from(drift).unwrap_or(if drift < 0 { i64::MIN } else { i64::MAX })
    }
}

/// The most that counts as rounded off where the other side has nothing: half a cent.
const BESIDE_NOTHING: Money = match Money::from_picodollars(5_000_000_000) {
    Some(half_a_cent) => half_a_cent,
    None => Money::ZERO,
};

#[derive(Default)]
struct Side {
    usage: Option<Usage>,
    cost: Option<Money>,
    rounding: Money,
}

/// Compares sums by day and model with the text of an export of the provider, in the order of days and models. An
/// export tells of the days it has; what Otto used on others is not its matter.
///
/// `own` are sums grouped by day and model.
///
/// # Errors
/// When the text is no export that can be read.
pub fn reconcile_text(
    own: &[UsageSum],
    text: &str,
    form: ExportForm,
    prices: &PriceTable,
) -> Result<Vec<Compared>, ExportError> {
    let export = read_export(text, form)?;
    let days = || export.keys().map(|(day, _)| day);
    let (first, last) = (days().min(), days().max());
    let own: Vec<UsageSum> = own
        .iter()
        .filter(|sum| {
            let day = sum.key.get(&UsageGroup::Day);
            day >= first && day <= last
        })
        .cloned()
        .collect();
    Ok(reconcile(&own, &export, prices))
}

/// Compares sums by day and model with an export of the provider, in the order of days and models.
///
/// `own` are sums grouped by day and model.
#[must_use]
pub fn reconcile(own: &[UsageSum], export: &Export, prices: &PriceTable) -> Vec<Compared> {
    let mut theirs: BTreeMap<(String, String), Side> = BTreeMap::new();
    for ((day, model), part) in export {
        let side = theirs
            .entry((day.clone(), known_as(model, prices)))
            .or_default();
        if let Some(usage) = part.usage {
            side.usage = Some(side.usage.unwrap_or_default().plus(&usage));
        }
        if let Some(cost) = part.cost {
            side.cost = Some(side.cost.unwrap_or_default().saturating_add(cost));
        }
        side.rounding = side.rounding.saturating_add(part.rounding);
    }
    let mut ours: BTreeMap<(String, String), &UsageSum> = BTreeMap::new();
    for sum in own {
        let word = |group| sum.key.get(&group).cloned().unwrap_or_default();
        let model = known_as(&word(UsageGroup::Model), prices);
        ours.insert((word(UsageGroup::Day), model), sum);
    }
    let keys: BTreeSet<&(String, String)> = theirs.keys().chain(ours.keys()).collect();
    let nothing = Side::default();
    keys.into_iter()
        .map(|key| {
            let spec = ModelId::new(&key.1).ok().and_then(|id| prices.find(&id));
            let their = theirs.get(key).unwrap_or(&nothing);
            compare(key, ours.get(key).copied(), their, spec.map(AsRef::as_ref))
        })
        .collect()
}

fn compare(
    (day, model): &(String, String),
    own: Option<&UsageSum>,
    theirs: &Side,
    spec: Option<&ModelSpec>,
) -> Compared {
    let (total, unconfirmed) = own.map_or((Money::ZERO, Money::ZERO), |own| {
        (own.cost, own.unconfirmed_cost)
    });
    let confirmed = total.saturating_sub(unconfirmed);
    let own_usage = own.map(|own| own.usage).unwrap_or_default();
    let (provider, standing) = match (theirs.cost, theirs.usage) {
        (Some(cost), _) => (
            cost,
            by_money(cost, confirmed, unconfirmed, theirs.rounding),
        ),
        (None, Some(usage)) => {
            let cost = spec.and_then(|spec| at_list_price(spec, &usage));
            (
                cost.unwrap_or(Money::ZERO),
                by_tokens(&usage, &own_usage, unconfirmed, spec),
            )
        }
        (None, None) => (
            Money::ZERO,
            by_money(Money::ZERO, confirmed, unconfirmed, Money::ZERO),
        ),
    };
    Compared {
        day: day.clone(),
        model: model.clone(),
        calls: own.map_or(0, |own| own.calls),
        unconfirmed_calls: own.map_or(0, |own| own.unconfirmed_calls),
        confirmed,
        unconfirmed,
        provider,
        standing,
    }
}

fn by_money(provider: Money, confirmed: Money, unconfirmed: Money, rounding: Money) -> Standing {
    let most = confirmed.saturating_add(unconfirmed);
    // However coarsely it is written, an amount beside nothing is no rounding of nothing.
    let rounding = if provider == Money::ZERO || most == Money::ZERO {
        rounding.min(BESIDE_NOTHING)
    } else {
        rounding
    };
    if provider.saturating_add(rounding) < confirmed {
        Standing::Less
    } else if provider > most.saturating_add(rounding) {
        Standing::More
    } else if unconfirmed == Money::ZERO || provider == confirmed {
        Standing::Same
    } else {
        Standing::Explained
    }
}

/// Tokens are compared class by class: a sum says nothing of the price tier that each call was in.
fn by_tokens(
    provider: &Usage,
    own: &Usage,
    unconfirmed: Money,
    spec: Option<&ModelSpec>,
) -> Standing {
    let classes = |usage: &Usage| {
        [
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
        ]
    };
    let (theirs, ours) = (classes(provider), classes(own));
    if theirs == ours {
        return Standing::Same;
    }
    if theirs.iter().zip(&ours).any(|(theirs, ours)| theirs < ours) {
        return Standing::Less;
    }
    let more = Usage {
        input_tokens: theirs[0] - ours[0],
        output_tokens: theirs[1] - ours[1],
        cache_read_tokens: theirs[2] - ours[2],
        cache_write_5m_tokens: theirs[3] - ours[3],
        cache_write_1h_tokens: theirs[4] - ours[4],
        thinking_tokens: 0,
    };
    match spec.and_then(|spec| at_list_price(spec, &more)) {
        Some(cost) if cost <= unconfirmed => Standing::Explained,
        _ => Standing::More,
    }
}

/// The cost of tokens at the model's ordinary prices.
fn at_list_price(spec: &ModelSpec, usage: &Usage) -> Option<Money> {
    let ordinary = ModelSpec {
        long_context: None,
        ..spec.clone()
    };
    ordinary.cost(usage)
}

fn known_as(model: &str, prices: &PriceTable) -> String {
    ModelId::new(model)
        .ok()
        .and_then(|id| prices.find(&id))
        .map_or_else(|| model.to_owned(), |spec| spec.id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use otto_anthropic::{Exported, price_table};

    const DAY: &str = "2026-11-28";
    const MODEL: &str = "claude-haiku-4-5";

    fn money(picodollars: u64) -> Money {
        Money::from_picodollars(picodollars).unwrap()
    }

    fn own(cost: u64, unconfirmed: u64, input_tokens: u64) -> UsageSum {
        let prices = price_table();
        UsageSum {
            key: BTreeMap::from([
                (UsageGroup::Day, DAY.to_owned()),
                (UsageGroup::Model, known_as(MODEL, &prices)),
            ]),
            calls: 3,
            unconfirmed_calls: u64::from(unconfirmed > 0),
            usage: Usage {
                input_tokens,
                ..Usage::default()
            },
            cost: money(cost),
            unconfirmed_cost: money(unconfirmed),
        }
    }

    fn standing(own: &[UsageSum], theirs: Exported) -> Standing {
        let export = Export::from([((DAY.to_owned(), MODEL.to_owned()), theirs)]);
        let compared = reconcile(own, &export, &price_table());
        let [one] = compared.as_slice() else {
            panic!("an alias is the same model: {compared:?}")
        };
        one.standing
    }

    fn cost(picodollars: u64) -> Exported {
        Exported {
            cost: Some(money(picodollars)),
            rounding: money(1),
            ..Exported::default()
        }
    }

    fn tokens(input_tokens: u64) -> Exported {
        Exported {
            usage: Some(Usage {
                input_tokens,
                ..Usage::default()
            }),
            ..Exported::default()
        }
    }

    #[test]
    fn money_is_compared_within_what_is_unconfirmed() {
        for (provider, expected) in [
            (70, Standing::Same),
            (100, Standing::Explained),
            (101, Standing::Explained),
            (102, Standing::More),
            (69, Standing::Explained),
            (68, Standing::Less),
        ] {
            assert_eq!(
                standing(&[own(100, 30, 1)], cost(provider)),
                expected,
                "{provider}"
            );
        }
        assert_eq!(standing(&[own(100, 0, 1)], cost(101)), Standing::Same);
        assert_eq!(standing(&[], cost(5)), Standing::More);
    }

    #[test]
    fn a_coarse_amount_hides_no_row_that_one_side_lacks() {
        const DOLLAR: u64 = 1_000_000_000_000;
        for (ours, amount, expected) in [
            (0, "1", Standing::More),
            (0, "1.00", Standing::More),
            (0, "0.01", Standing::More),
            (0, "0", Standing::Same),
            (DOLLAR * 4 / 10, "0", Standing::Less),
            (DOLLAR / 250, "0.00", Standing::Same),
            (DOLLAR * 3 / 2, "1", Standing::Same),
            (DOLLAR * 3 / 2 + 1, "1", Standing::Less),
            (DOLLAR * 3 / 2 - 1, "2", Standing::More),
        ] {
            let own: Vec<UsageSum> = (ours > 0).then(|| own(ours, 0, 1)).into_iter().collect();
            let text = format!("day,model,cost_usd\n{DAY},{MODEL},{amount}\n");
            let compared = reconcile_text(&own, &text, ExportForm::Csv, &price_table()).unwrap();
            assert_eq!(compared[0].standing, expected, "{ours} beside {amount}");
        }
    }

    #[test]
    fn tokens_are_compared_class_by_class() {
        assert_eq!(standing(&[own(100, 0, 7)], tokens(7)), Standing::Same);
        assert_eq!(standing(&[own(100, 0, 7)], tokens(8)), Standing::More);
        assert_eq!(standing(&[own(100, 0, 7)], tokens(6)), Standing::Less);
        // A token of input costs a million picodollars.
        assert_eq!(
            standing(&[own(2_000_000, 1_000_000, 7)], tokens(8)),
            Standing::Explained
        );
        assert_eq!(
            standing(&[own(2_000_000, 1_000_000, 7)], tokens(9)),
            Standing::More
        );
    }

    #[test]
    fn what_only_otto_knows_is_compared_with_nothing() {
        let compared = reconcile(&[own(100, 0, 1)], &Export::new(), &price_table());
        assert_eq!(compared[0].standing, Standing::Less);
        let compared = reconcile(&[own(100, 100, 1)], &Export::new(), &price_table());
        assert_eq!(compared[0].standing, Standing::Same);
    }
}
