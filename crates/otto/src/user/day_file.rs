//! The file of one UTC day: one sum that many processes change in turn, durably and cheaply.
//!
//! Two records stand in it, a block apart, each with a number that grows and the sum, both written twice. A change
//! overwrites the older record and syncs its bytes alone: the file keeps its length and its name, so no directory has
//! to be synced. A crash in the middle tears at most the record that was being written; the other one holds what was
//! durable before.
//!
//! Locking is not done here: whoever writes holds the lock of the day book.
//!
//! Invariant: once a write has returned `Ok`, no crash brings an earlier sum back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use otto_core::Money;

/// The distance of the records: a block of any disk in use, so that a torn write of one leaves the other alone.
const STRIDE: usize = 4096;

/// Four numbers of up to twenty digits, and what separates them.
const RECORD_BYTES: usize = 84;

/// BOUND: a day's file holds two records.
const FILE_BYTES: usize = 2 * STRIDE;

/// What a day's file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DaySum {
    /// What all processes have taken.
    pub(super) taken: Money,
    /// Grows with each change; `None` where there is no file with records yet.
    number: Option<u64>,
}

/// Reads a day's file. `Ok(None)`: it says nothing that could be relied on.
pub(super) fn read(path: &Path) -> io::Result<Option<DaySum>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(DaySum::default())),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::with_capacity(FILE_BYTES);
    file.take(FILE_BYTES as u64).read_to_end(&mut bytes)?;
    if bytes.len() < FILE_BYTES {
        return Ok(plain_sum(&bytes));
    }
    let records = [record(&bytes), record(&bytes[STRIDE..])];
    Ok(records.into_iter().flatten().max_by_key(|sum| sum.number))
}

/// Records a new sum in place of `before`, which was read under the lock that is still held; durable when it returns.
/// After an error a later read may show either.
pub(super) fn write(dir: &Path, path: &Path, before: DaySum, taken: Money) -> io::Result<()> {
    let Some(number) = before.number.and_then(|number| number.checked_add(1)) else {
        return create(dir, path, taken);
    };
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&encode(number, taken), place(number))?;
    // The length stays: what has to be durable are the bytes.
    file.sync_data()
}

/// Makes the file whole under another name, so that it is never there with less than two records.
fn create(dir: &Path, path: &Path, taken: Money) -> io::Result<()> {
    let draft = dir.join(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    // Blocks of its own, with nothing in them: a later change allocates none.
    let mut bytes = vec![b'\n'; FILE_BYTES];
    let first = encode(1, taken);
    let at = usize::try_from(place(1)).unwrap_or(0);
    bytes[at..at + first.len()].copy_from_slice(&first);
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()
}

/// Where the record of that number stands: beside the one before it.
const fn place(number: u64) -> u64 {
    (number % 2) * STRIDE as u64
}

fn encode(number: u64, taken: Money) -> [u8; RECORD_BYTES] {
    let picodollars = taken.picodollars();
    let text = format!("{number:020} {picodollars:020} {number:020} {picodollars:020}\n");
    let mut bytes = [b'\n'; RECORD_BYTES];
    bytes.copy_from_slice(text.as_bytes());
    bytes
}

/// A whole record; a torn one says two different things.
fn record(bytes: &[u8]) -> Option<DaySum> {
    let text = std::str::from_utf8(bytes.get(..RECORD_BYTES)?).ok()?;
    let mut numbers = text.strip_suffix('\n')?.split(' ').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (number, taken) = (next()?, next()?);
    if next()? != number || next()? != taken || numbers.next().is_some() {
        return None;
    }
    Some(DaySum {
        taken: Money::from_picodollars(taken)?,
        number: Some(number),
    })
}

/// The form of earlier versions: one number. The next change writes the file anew.
fn plain_sum(bytes: &[u8]) -> Option<DaySum> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(DaySum {
        taken: Money::from_picodollars(text.trim_end().parse().ok()?)?,
        number: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cents(count: u64) -> Money {
        Money::from_picodollars(count * 10_000_000_000).unwrap()
    }

    /// A directory with a day that was changed this often, by a cent each.
    fn changed(times: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day");
        for count in 1..=times {
            let before = read(&path).unwrap().unwrap();
            assert_eq!(before.taken, cents(count - 1));
            write(dir.path(), &path, before, cents(count)).unwrap();
        }
        (dir, path)
    }

    #[test]
    fn a_change_keeps_the_file_and_its_length() {
        use std::os::unix::fs::MetadataExt;

        let (dir, path) = changed(1);
        let made = fs::metadata(&path).unwrap();
        for count in 2..6 {
            let before = read(&path).unwrap().unwrap();
            write(dir.path(), &path, before, cents(count)).unwrap();
            assert_eq!(read(&path).unwrap().unwrap().taken, cents(count));
        }
        let now = fs::metadata(&path).unwrap();
        assert_eq!((now.ino(), now.len()), (made.ino(), made.len()));
        assert_eq!(now.len(), FILE_BYTES as u64);
    }

    #[test]
    fn a_write_that_is_cut_or_mixed_at_any_byte_leaves_what_was_before_or_what_comes_after() {
        for times in 1..4 {
            let (dir, path) = changed(times);
            let before = fs::read(&path).unwrap();
            let sum = read(&path).unwrap().unwrap();
            write(dir.path(), &path, sum, Money::from_dollars(9)).unwrap();
            let after = fs::read(&path).unwrap();
            let at = usize::try_from(place(times + 1)).unwrap();
            for cut in 0..=RECORD_BYTES {
                // What of the record reached the disk: its beginning, or its end.
                for of_new in [at..at + cut, at + cut..at + RECORD_BYTES] {
                    let mut torn = before.clone();
                    torn[of_new.clone()].copy_from_slice(&after[of_new]);
                    fs::write(&path, &torn).unwrap();
                    let found = read(&path).unwrap().expect("one record is whole").taken;
                    let expected = if torn == after {
                        Money::from_dollars(9)
                    } else {
                        cents(times)
                    };
                    assert_eq!(found, expected, "{times} changes, cut at {cut}");
                }
            }
            // Its block is gone altogether.
            for byte in [0, 0xFF] {
                let mut lost = after.clone();
                lost[at..at + STRIDE].fill(byte);
                fs::write(&path, &lost).unwrap();
                assert_eq!(read(&path).unwrap().unwrap().taken, cents(times));
            }
        }
    }

    #[test]
    fn the_sum_of_an_earlier_version_is_read_and_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("day");
        fs::write(&path, "1500000000000\n").unwrap();
        let before = read(&path).unwrap().unwrap();
        assert_eq!(
            before.taken,
            Money::from_picodollars(1_500_000_000_000).unwrap()
        );
        write(dir.path(), &path, before, Money::from_dollars(2)).unwrap();
        let after = read(&path).unwrap().unwrap();
        assert_eq!(
            (after.taken, after.number),
            (Money::from_dollars(2), Some(1))
        );
    }

    #[test]
    fn no_number_is_the_last() {
        let (dir, path) = changed(1);
        let mut bytes = fs::read(&path).unwrap();
        let at = usize::try_from(place(u64::MAX)).unwrap();
        bytes[at..at + RECORD_BYTES].copy_from_slice(&encode(u64::MAX, cents(7)));
        fs::write(&path, bytes).unwrap();
        let before = read(&path).unwrap().unwrap();
        assert_eq!(before.taken, cents(7));
        write(dir.path(), &path, before, cents(8)).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().taken, cents(8));
    }

    #[test]
    fn what_no_record_says_is_told_apart_from_nothing() {
        let (_dir, path) = changed(2);
        for bytes in [
            vec![0; FILE_BYTES],
            vec![b'\n'; FILE_BYTES],
            vec![b'7'; STRIDE],
        ] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path).unwrap(), None);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path).unwrap(), Some(DaySum::default()));
    }
}
