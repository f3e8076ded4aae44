//! The day book: what one user's processes may spend on a UTC day, whichever project they work in.
//!
//! A process takes money of the day in pieces, durably and before it is spent, and gives back at its end what
//! it did not use. In between it needs no file: what it has taken is a bound that no other process can touch.
//! A process that dies keeps what it took for the rest of the day, so a crash can only make the day poorer.
//!
//! It reads no database of a project: one that somebody has prepared cannot lie to it.
//!
//! Invariant: the sum of what is taken never exceeds the ceiling, but for what a provider billed above a hold.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use otto_core::agent::Limit;
use otto_core::id::ReservationId;
use otto_core::ledger::{Amount, Denial, Quote, Resource, Scope, Warning};
use otto_core::port::store::StoreError;
use otto_core::{Money, UtcDay};

use super::day_file::{self, DaySum};

/// BOUND: what is taken of a day at once, so that not every call writes a file; also the most that a crash
/// costs the rest of the day beside its open calls.
const PIECE: Money = match Money::from_picodollars(100_000_000_000) {
    Some(piece) => piece,
    None => Money::ZERO,
};

/// BOUND: days that are kept; a clock set back further than this finds no record of what was spent.
const DAYS_KEPT: u32 = 62;

/// Share of the ceiling at which a warning is raised, in percent.
const WARN_PERCENT: u64 = 80;

/// The part of the user's days that this process draws on.
#[derive(Debug)]
pub(crate) struct DayBook {
    dir: PathBuf,
    ceiling: Limit<Money>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    day: UtcDay,
    /// Taken of `day` by this process.
    taken: Money,
    /// Of that, held by open calls or charged.
    used: Money,
    /// What all processes have taken, as last seen.
    seen: Money,
    warned: bool,
    open: HashMap<ReservationId, (UtcDay, Money)>,
}

/// The answer to a hold.
#[derive(Debug)]
pub(crate) enum Held {
    /// This much is held; at most what was asked for.
    Granted(Money),
    /// The day has too little left.
    Over(Box<Denial>),
}

impl DayBook {
    /// The book in the user's state directory.
    pub(crate) fn new(user_state_dir: &Path, ceiling: Limit<Money>) -> Self {
        Self {
            dir: user_state_dir.join("days"),
            ceiling,
            taken: Mutex::default(),
        }
    }

    /// Holds all of the quote, if what was taken before covers it: no file is needed.
    pub(crate) fn hold_at_once(
        &self,
        today: UtcDay,
        id: ReservationId,
        quote: &Quote,
    ) -> Option<Money> {
        let mut own = self.lock();
        own.begin(today);
        let most = cost_of(quote, quote.output_wanted);
        (own.available() >= most || own.open.contains_key(&id)).then(|| own.hold(id, most))
    }

    /// Holds money of `today` for a call: all of the quote if the day has it, at least its floor.
    ///
    /// # Errors
    /// When the book cannot be read or written. Nothing is held then.
    pub(crate) fn hold(
        &self,
        today: UtcDay,
        id: ReservationId,
        quote: &Quote,
    ) -> Result<Held, StoreError> {
        let mut own = self.lock();
        own.begin(today);
        let most = cost_of(quote, quote.output_wanted);
        let least = cost_of(quote, quote.output_floor.min(quote.output_wanted));
        let is_known = own.open.contains_key(&id);
        if own.available() < most && !is_known {
            let missing = most.saturating_sub(own.available());
            let wanted = missing.max(PIECE);
            let (added, seen) = self.take(today, wanted)?;
            own.taken = own.taken.saturating_add(added);
            own.seen = seen;
        }
        if own.available() < least && !is_known {
            return Ok(Held::Over(Box::new(self.denial(&own, least))));
        }
        Ok(Held::Granted(own.hold(id, most)))
    }

    /// Lowers a hold to what the ledger really held.
    pub(crate) fn lower(&self, id: ReservationId, to: Money) {
        let mut own = self.lock();
        let Some((day, held)) = own.open.get_mut(&id).map(|(day, held)| {
            let before = *held;
            *held = to.min(before);
            (*day, before)
        }) else {
            return;
        };
        if day == own.day {
            own.used = own.used.saturating_sub(held.saturating_sub(to));
        }
    }

    /// Ends a hold that led to nothing.
    pub(crate) fn release(&self, id: ReservationId) {
        self.settle(id, Money::ZERO);
    }

    /// Replaces a hold by what was charged. A reservation of another process changes nothing: that process
    /// has taken its hold. Raises the day's warning once.
    pub(crate) fn settle(&self, id: ReservationId, charged: Money) -> Option<Warning> {
        let mut own = self.lock();
        let (day, held) = own.open.remove(&id)?;
        if day != own.day {
            return None;
        }
        own.used = own.used.saturating_sub(held).saturating_add(charged);
        if own.used > own.taken {
            // Billed above the hold: what was spent is recorded, whatever the ceiling says. A failure to
            // write leaves this process without money for the day, which is the safe side.
            let missing = own.used.saturating_sub(own.taken);
            if let Ok(seen) = self.change(day, |sum| sum.saturating_add(missing)) {
                own.taken = own.used;
                own.seen = seen;
            }
        }
        self.warning(&mut own)
    }

    /// What all processes have taken of `today` and not given back.
    ///
    /// # Errors
    /// When the book cannot be read.
    pub(crate) fn spent(&self, today: UtcDay) -> Result<Money, StoreError> {
        let own = self.lock();
        let all = self.read(&self.path(today))?.taken;
        Ok(if own.day == today {
            all.saturating_sub(own.available())
        } else {
            all
        })
    }

    /// The ceiling.
    pub(crate) const fn ceiling(&self) -> &Limit<Money> {
        &self.ceiling
    }

    /// Gives back what this process has taken and not used.
    pub(crate) fn give_back(&self) {
        let mut own = self.lock();
        let unused = own.available();
        if unused == Money::ZERO {
            return;
        }
        // Whether it could be written or not, it is not spent here any more: others may have it already. What was not
        // given back only makes the day poorer than it could be.
        own.taken = own.used;
        if let Ok(seen) = self.change(own.day, |sum| sum.saturating_sub(unused)) {
            own.seen = seen;
        }
    }

    fn denial(&self, own: &Taken, needed: Money) -> Denial {
        let held = own.held();
        Denial {
            scope: Scope::Day(own.day),
            resource: Resource::Cost,
            limit: Amount::Cost(self.ceiling.value),
            spent: Amount::Cost(
                own.seen
                    .saturating_sub(own.available())
                    .saturating_sub(held),
            ),
            held: Amount::Cost(held),
            needed: Amount::Cost(needed),
            origin: self.ceiling.origin.clone(),
            latched: false,
        }
    }

    fn warning(&self, own: &mut Taken) -> Option<Warning> {
        let spent = own
            .seen
            .saturating_sub(own.available())
            .saturating_sub(own.held());
        let is_near = u128::from(spent.picodollars()) * 100
            >= u128::from(self.ceiling.value.picodollars()) * u128::from(WARN_PERCENT);
        if own.warned || !is_near {
            return None;
        }
        own.warned = true;
        // Whoever makes the file warns: once per day, whichever project gets there first.
        let mark = self.dir.join(format!("{}.warned", day_name(own.day)));
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(mark);
        made.is_ok().then(|| Warning {
            scope: Scope::Day(own.day),
            resource: Resource::Cost,
            limit: Amount::Cost(self.ceiling.value),
            spent: Amount::Cost(spent),
            origin: self.ceiling.origin.clone(),
        })
    }

    /// Takes up to `wanted` of a day. Returns what it got and what all have taken now.
    fn take(&self, day: UtcDay, wanted: Money) -> Result<(Money, Money), StoreError> {
        let mut added = Money::ZERO;
        let seen = self.change(day, |sum| {
            added = self.ceiling.value.saturating_sub(sum).min(wanted);
            sum.saturating_add(added)
        })?;
        Ok((added, seen))
    }

    /// Changes the sum of a day under the lock; durable when it returns.
    fn change(
        &self,
        day: UtcDay,
        change: impl FnOnce(Money) -> Money,
    ) -> Result<Money, StoreError> {
        let failed = |attempted: &str| {
            let dir = self.dir.display().to_string();
            let attempted = attempted.to_owned();
            move |error: io::Error| store_error(&error, &format!("{attempted} in `{dir}`"))
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(failed("make the directory of the daily ceiling"))?;
        let lock = open_own(&self.dir.join("lock")).map_err(failed("lock the day's money"))?;
        lock.lock().map_err(failed("lock the day's money"))?;
        let path = self.path(day);
        let before = self.read(&path)?;
        let after = change(before.taken);
        if after != before.taken {
            day_file::write(&self.dir, &path, before, after)
                .map_err(failed("record the day's money"))?;
            if before == DaySum::default() {
                self.forget_old(day);
            }
        }
        // Closing the file gives the lock back.
        drop(lock);
        Ok(after)
    }

    fn read(&self, path: &Path) -> Result<DaySum, StoreError> {
        let attempted = format!("read the day's money in `{}`", path.display());
        let read = day_file::read(path).map_err(|error| store_error(&error, &attempted))?;
        read.ok_or_else(|| {
            let detail = format!(
                "{attempted}: none of its records is whole; remove the file to begin the day anew"
            );
            StoreError::Damaged {
                detail: Arc::from(detail),
            }
        })
    }

    /// Removes days that are over for long. What cannot be removed is tried again on another day.
    fn forget_old(&self, today: UtcDay) {
        let oldest = day_name(UtcDay(today.0.saturating_sub(DAYS_KEPT)));
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_day = name.to_str().is_some_and(|name| {
                name.as_bytes().first().is_some_and(u8::is_ascii_digit) && name < oldest.as_str()
            });
            if is_day {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, day: UtcDay) -> PathBuf {
        self.dir.join(day_name(day))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing can panic between the assignments of a change.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DayBook {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Taken {
    /// Goes on to another day. What was taken of the day before stays taken.
    fn begin(&mut self, today: UtcDay) {
        if self.day != today {
            self.day = today;
            self.taken = Money::ZERO;
            self.used = Money::ZERO;
            self.seen = Money::ZERO;
            self.warned = false;
        }
    }

    /// Holds up to `most` of what is available, or tells what is held already.
    fn hold(&mut self, id: ReservationId, most: Money) -> Money {
        if let Some((_, held)) = self.open.get(&id) {
            return *held;
        }
        let held = self.available().min(most);
        self.used = self.used.saturating_add(held);
        self.open.insert(id, (self.day, held));
        held
    }

    const fn available(&self) -> Money {
        self.taken.saturating_sub(self.used)
    }

    /// Held by the open calls of the day.
    fn held(&self) -> Money {
        self.open
            .values()
            .filter(|(day, _)| *day == self.day)
            .fold(Money::ZERO, |sum, (_, held)| sum.saturating_add(*held))
    }
}

/// What a call costs at most with that much output.
fn cost_of(quote: &Quote, output_tokens: u64) -> Money {
    quote
        .output_price
        .checked_mul(output_tokens)
        .and_then(|cost| cost.checked_add(quote.prompt_cost))
        .unwrap_or(Money::MAX)
}

/// `2026-11-28`: sorts as the days do.
fn day_name(day: UtcDay) -> String {
    let (year, month, date) = day.civil();
    format!("{year:04}-{month:02}-{date:02}")
}

fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn store_error(error: &io::Error, attempted: &str) -> StoreError {
    let detail = Arc::from(format!("{attempted}: {error}"));
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { detail },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { detail }
        }
        _ => StoreError::Unavailable { detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otto_core::id::EffectId;
    use otto_core::{InvocationId, Timestamp};

    const DAY: UtcDay = UtcDay(20_785);

    fn book(dir: &Path, dollars: u32) -> DayBook {
        DayBook::new(dir, Limit::new(Money::from_dollars(dollars), "test"))
    }

    fn id(number: u64) -> ReservationId {
        ReservationId {
            invocation: InvocationId::from_parts(Timestamp::EPOCH, [7; 10]),
            effect: EffectId(number),
        }
    }

    /// A call of a prompt that costs `prompt` cents and of up to 100 output tokens of a cent each.
    fn quote(prompt: u64) -> Quote {
        let cents = |count: u64| Money::from_picodollars(count * 10_000_000_000).unwrap();
        Quote {
            prompt_tokens: 1,
            prompt_cost: cents(prompt),
            output_price: cents(1),
            output_wanted: 100,
            output_floor: 10,
        }
    }

    fn granted(held: Held) -> Money {
        match held {
            Held::Granted(held) => held,
            Held::Over(denial) => panic!("{denial}"),
        }
    }

    #[test]
    fn two_processes_have_one_ceiling() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (book(dir.path(), 3), book(dir.path(), 3));
        assert_eq!(
            granted(one.hold(DAY, id(1), &quote(100)).unwrap()),
            Money::from_dollars(2)
        );
        // A dollar is left: the prompt and the output it still pays for.
        assert_eq!(
            granted(two.hold(DAY, id(1), &quote(50)).unwrap()),
            Money::from_dollars(1)
        );
        let Held::Over(denial) = two.hold(DAY, id(2), &quote(50)).unwrap() else {
            panic!("the day is spent")
        };
        assert_eq!(
            denial.to_string(),
            "cost limit of $3.00 reached in day 2026-11-28: $2.00 spent, $1.00 held, $0.60 needed for the next call; limit set by test"
        );
        // What was not used comes back, for whoever asks.
        one.settle(id(1), Money::from_dollars(1));
        assert!(matches!(
            two.hold(DAY, id(2), &quote(50)).unwrap(),
            Held::Over(_)
        ));
        drop(one);
        assert_eq!(
            granted(two.hold(DAY, id(2), &quote(50)).unwrap()),
            Money::from_dollars(1)
        );
    }

    #[test]
    fn a_process_that_dies_keeps_what_it_took() {
        let dir = tempfile::tempdir().unwrap();
        let dead = book(dir.path(), 1);
        granted(dead.hold(DAY, id(1), &quote(0)).unwrap());
        std::mem::forget(dead);
        assert!(matches!(
            book(dir.path(), 1).hold(DAY, id(1), &quote(0)).unwrap(),
            Held::Over(_)
        ));
        let next = UtcDay(DAY.0 + 1);
        let later = book(dir.path(), 1);
        granted(later.hold(next, id(1), &quote(0)).unwrap());
        // A clock that is set back finds the day as it was left.
        assert!(matches!(
            later.hold(DAY, id(2), &quote(0)).unwrap(),
            Held::Over(_)
        ));
    }

    #[test]
    fn what_could_not_be_given_back_is_not_spent_either() {
        let dir = tempfile::tempdir().unwrap();
        let book = book(dir.path(), 10);
        let small = quote(1);
        granted(book.hold(DAY, id(1), &small).unwrap());
        book.settle(id(1), Money::ZERO);
        let lock = dir.path().join("days/lock");
        fs::remove_file(&lock).unwrap();
        fs::create_dir(&lock).unwrap();
        book.give_back();
        // Another process may have it by now.
        assert_eq!(book.hold_at_once(DAY, id(2), &small), None);
        book.hold(DAY, id(2), &small).unwrap_err();
    }

    #[test]
    fn most_calls_write_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let book = book(dir.path(), 10);
        let small = Quote {
            output_wanted: 1,
            output_floor: 1,
            ..quote(0)
        };
        granted(book.hold(DAY, id(1), &small).unwrap());
        let path = book.path(DAY);
        fs::remove_file(&path).unwrap();
        for number in 2..10 {
            granted(book.hold(DAY, id(number), &small).unwrap());
        }
        assert!(!path.exists());
    }

    #[test]
    fn what_is_billed_above_the_hold_is_recorded_above_the_ceiling() {
        let dir = tempfile::tempdir().unwrap();
        let book = book(dir.path(), 1);
        granted(book.hold(DAY, id(1), &quote(0)).unwrap());
        book.settle(id(1), Money::from_dollars(5));
        assert_eq!(book.spent(DAY).unwrap(), Money::from_dollars(5));
        assert!(matches!(
            book.hold(DAY, id(2), &quote(0)).unwrap(),
            Held::Over(_)
        ));
    }

    #[test]
    fn the_warning_comes_once_per_day_whoever_gets_there() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (book(dir.path(), 2), book(dir.path(), 2));
        granted(one.hold(DAY, id(1), &quote(0)).unwrap());
        assert_eq!(one.settle(id(1), Money::from_dollars(1)), None);
        granted(two.hold(DAY, id(1), &quote(0)).unwrap());
        let warning = two.settle(id(1), Money::from_dollars(1)).expect("2 of 2");
        assert_eq!(warning.spent, Amount::Cost(Money::from_dollars(2)));
        let three = book(dir.path(), 2);
        assert_eq!(three.settle(id(1), Money::ZERO), None);
    }

    #[test]
    fn a_damaged_day_is_refused_and_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let book = book(dir.path(), 2);
        granted(book.hold(DAY, id(1), &quote(0)).unwrap());
        for text in ["", "-1", "1.5", "99999999999999999999", "zero"] {
            fs::write(book.path(DAY), text).unwrap();
            let error = DayBook::new(dir.path(), book.ceiling.clone())
                .hold(DAY, id(9), &quote(0))
                .unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("remove the file to begin the day anew"),
                "{error}"
            );
        }
    }
}
