//! A disk that forgets: what a power loss may leave of the operations of a run.
//!
//! Every file has what is durable and the operations since its last sync; every directory has the names that
//! are durable and the changes of names since its last sync. A power loss keeps of a file any of: nothing of
//! what is pending, a prefix of it, a prefix with the next write torn at 512 bytes, everything but one write,
//! and the new length with zeros; of a directory a prefix of its changes, in order.
//!
//! The model is stricter than common file systems: syncing a file does not make its name durable.
//!
//! Invariant: what was synced is in every state.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use otto_sim::conformance::draw::Draw;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A file, whatever its name is.
type Node = usize;

/// A pending change of a file.
#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    Length(usize),
}

/// A pending change of the names in a directory.
#[derive(Debug, Clone)]
enum Naming {
    Add(PathBuf, Node),
    AddDir(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    Exchange(PathBuf, PathBuf),
}

#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// How many changes have become durable.
    synced: usize,
}

/// The disk, at one instant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    /// Names as a reader sees them now: files and directories.
    names: BTreeMap<PathBuf, Node>,
    dirs: BTreeSet<PathBuf>,
    durable_names: BTreeMap<PathBuf, Node>,
    durable_dirs: BTreeSet<PathBuf>,
    pending: BTreeMap<PathBuf, Vec<Naming>>,
    /// How many changes of each directory have become durable.
    synced_names: BTreeMap<PathBuf, usize>,
}

/// What a sync covers that has begun: how many changes of each file and directory, from the first there ever was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Covered {
    files: BTreeMap<Node, usize>,
    names: BTreeMap<PathBuf, usize>,
}

/// What a power loss left: directories and files with their content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Disk {
    /// A disk that durably holds what is below a directory.
    pub(crate) fn holding(dir: &Path) -> Result<Self> {
        let mut disk = Self::default();
        disk.load(dir)?;
        disk.durable_names = disk.names.clone();
        disk.durable_dirs = disk.dirs.clone();
        Ok(disk)
    }

    fn load(&mut self, dir: &Path) -> Result<()> {
        self.dirs.insert(dir.to_owned());
        for entry in std::fs::read_dir(dir).with_context(|| format!("list `{}`", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                self.load(&path)?;
            } else {
                let node = self.files.len();
                self.files.push(File {
                    durable: std::fs::read(&path)?,
                    ..File::default()
                });
                self.names.insert(path, node);
            }
        }
        Ok(())
    }

    fn name(&mut self, path: &Path, naming: Naming) {
        let dir = path.parent().unwrap_or(path).to_owned();
        self.pending.entry(dir).or_default().push(naming);
    }

    /// A file is opened that may not be there yet.
    pub(crate) fn create(&mut self, path: &Path) {
        if self.names.contains_key(path) || self.dirs.contains(path) {
            return;
        }
        let node = self.files.len();
        self.files.push(File::default());
        self.names.insert(path.to_owned(), node);
        self.name(path, Naming::Add(path.to_owned(), node));
    }

    pub(crate) fn make_dir(&mut self, path: &Path) {
        if self.dirs.insert(path.to_owned()) {
            self.name(path, Naming::AddDir(path.to_owned()));
        }
    }

    pub(crate) fn write(&mut self, path: &Path, at: Option<u64>, data: Vec<u8>) {
        let length = self.length(path);
        if let Some(node) = self.names.get(path) {
            let at = at.map_or(length, |at| usize::try_from(at).unwrap_or(length));
            self.files[*node].pending.push(Change::Write { at, data });
        }
    }

    pub(crate) fn set_length(&mut self, path: &Path, length: u64) {
        if let Some(node) = self.names.get(path) {
            let length = usize::try_from(length).unwrap_or(0);
            self.files[*node].pending.push(Change::Length(length));
        }
    }

    fn length(&self, path: &Path) -> usize {
        self.names
            .get(path)
            .map_or(0, |node| all(&self.files[*node]).len())
    }

    /// A name goes; a directory that is not empty stays, as the call says that fails.
    pub(crate) fn remove(&mut self, path: &Path) {
        let is_below = |name: &PathBuf| name.parent() == Some(path);
        if self.names.keys().chain(&self.dirs).any(is_below) {
            return;
        }
        if self.names.remove(path).is_some() || self.dirs.remove(path) {
            self.name(path, Naming::Remove(path.to_owned()));
        }
    }

    /// A file gets another name; it stays where it is if it may not replace what has that name.
    pub(crate) fn rename(&mut self, from: &Path, to: &Path, replaces: bool) {
        if !replaces && self.names.contains_key(to) {
            return;
        }
        if let Some(node) = self.names.remove(from) {
            self.names.insert(to.to_owned(), node);
            self.name(from, Naming::Rename(from.to_owned(), to.to_owned()));
        }
    }

    /// Two files get each other's name, in one step.
    pub(crate) fn exchange(&mut self, one: &Path, other: &Path) {
        let naming = Naming::Exchange(one.to_owned(), other.to_owned());
        apply(&naming, &mut self.names, &mut self.dirs);
        self.name(one, naming);
    }

    /// A sync of a file or a directory begins.
    pub(crate) fn begin_sync(&self, path: &Path) -> Covered {
        let mut covered = Covered::default();
        if let Some(node) = self.names.get(path) {
            covered.files.insert(*node, self.files[*node].changes());
        } else {
            covered
                .names
                .insert(path.to_owned(), self.name_changes(path));
        }
        covered
    }

    /// A sync of everything on the disk begins.
    pub(crate) fn begin_sync_all(&self) -> Covered {
        let files = self.files.iter().map(File::changes).enumerate();
        let dirs = self.pending.keys();
        Covered {
            files: files.collect(),
            names: dirs
                .map(|dir| (dir.clone(), self.name_changes(dir)))
                .collect(),
        }
    }

    /// A sync has ended: what was there when it began is durable, and nothing else.
    pub(crate) fn end_sync(&mut self, covered: Covered) {
        for (node, changes) in covered.files {
            let file = &mut self.files[node];
            let new = changes.saturating_sub(file.synced);
            for change in file.pending.drain(..new) {
                perform(&mut file.durable, &change);
            }
            file.synced += new;
        }
        for (dir, changes) in covered.names {
            let synced = self.synced_names.entry(dir.clone()).or_default();
            let new = changes.saturating_sub(*synced);
            *synced += new;
            let Some(pending) = self.pending.get_mut(&dir) else {
                continue;
            };
            for naming in pending.drain(..new) {
                apply(&naming, &mut self.durable_names, &mut self.durable_dirs);
            }
            if pending.is_empty() {
                self.pending.remove(&dir);
            }
        }
    }

    fn name_changes(&self, dir: &Path) -> usize {
        let synced = self.synced_names.get(dir).copied().unwrap_or_default();
        synced + self.pending.get(dir).map_or(0, Vec::len)
    }

    /// What a power loss at this instant may leave, at most `most` states, drawn from a seed where there are
    /// more. Says whether that is all there are.
    pub(crate) fn states(&self, most: usize, seed: u64) -> (Vec<State>, bool) {
        let mut axes: Vec<Axis<'_>> = Vec::new();
        for (dir, pending) in &self.pending {
            axes.push(Axis::Names(dir, pending.len() + 1));
        }
        for (node, file) in self.files.iter().enumerate() {
            if !file.pending.is_empty() {
                axes.push(Axis::Content(node, remains(file)));
            }
        }
        let sizes: Vec<usize> = axes.iter().map(Axis::len).collect();
        let total = sizes
            .iter()
            .try_fold(1_usize, |product, size| product.checked_mul(*size));
        let mut states = Vec::new();
        match total {
            Some(total) if total <= most => {
                for number in 0..total {
                    states.push(self.state(&axes, &choice(number, &sizes)));
                }
            }
            _ => {
                // The corners, each axis by itself from either, and then what the seed draws.
                for base in [0, usize::MAX] {
                    let corner: Vec<usize> = sizes.iter().map(|size| base.min(size - 1)).collect();
                    states.push(self.state(&axes, &corner));
                    for (axis, size) in sizes.iter().enumerate() {
                        for value in 0..*size {
                            let mut choice = corner.clone();
                            choice[axis] = value;
                            states.push(self.state(&axes, &choice));
                        }
                    }
                }
                let mut draw = Draw::new(seed);
                while states.len() < most {
                    let choice: Vec<usize> =
                        sizes.iter().map(|size| drawn(&mut draw, *size)).collect();
                    states.push(self.state(&axes, &choice));
                }
                states.truncate(most);
            }
        }
        (states, total.is_some_and(|total| total <= most))
    }

    fn state(&self, axes: &[Axis<'_>], choice: &[usize]) -> State {
        let (mut names, mut dirs) = (self.durable_names.clone(), self.durable_dirs.clone());
        let mut contents: BTreeMap<Node, &Vec<u8>> = BTreeMap::new();
        for (axis, chosen) in axes.iter().zip(choice) {
            match axis {
                Axis::Names(dir, _) => {
                    for naming in &self.pending[*dir][..*chosen] {
                        apply(naming, &mut names, &mut dirs);
                    }
                }
                Axis::Content(node, remains) => {
                    contents.insert(*node, &remains[*chosen]);
                }
            }
        }
        let files = names
            .into_iter()
            // A name below a directory that is gone is gone with it.
            .filter(|(path, _)| path.parent().is_none_or(|dir| dirs.contains(dir)))
            .map(|(path, node)| {
                let content = contents.get(&node).map_or_else(
                    || self.files[node].durable.clone(),
                    |content| (*content).clone(),
                );
                (path, content)
            })
            .collect();
        State { dirs, files }
    }
}

impl File {
    /// How many changes there ever were.
    const fn changes(&self) -> usize {
        self.synced + self.pending.len()
    }
}

/// One thing that a power loss decides by itself.
enum Axis<'a> {
    /// How many of a directory's changes stay.
    Names(&'a PathBuf, usize),
    /// What stays of a file.
    Content(Node, Vec<Vec<u8>>),
}

impl Axis<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Names(_, len) => *len,
            Self::Content(_, remains) => remains.len(),
        }
    }
}

impl State {
    /// Puts the state below `to`, where it was below `from`.
    pub(crate) fn restore(&self, from: &Path, to: &Path) -> Result<()> {
        for dir in &self.dirs {
            std::fs::create_dir_all(to.join(dir.strip_prefix(from)?))?;
        }
        for (path, content) in &self.files {
            let path = to.join(path.strip_prefix(from)?);
            std::fs::write(&path, content)
                .with_context(|| format!("write `{}`", path.display()))?;
        }
        Ok(())
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// What may stay of a file, none of it twice.
fn remains(file: &File) -> Vec<Vec<u8>> {
    let mut remains = vec![file.durable.clone()];
    let mut prefix = file.durable.clone();
    for (index, change) in file.pending.iter().enumerate() {
        if let Change::Write { at, data } = change {
            // Torn: the first sector of it, or all but the last.
            for keep in [SECTOR, data.len().saturating_sub(1) / SECTOR * SECTOR] {
                if keep < data.len() {
                    let mut torn = prefix.clone();
                    put(&mut torn, *at, &data[..keep]);
                    remains.push(torn);
                }
            }
        }
        perform(&mut prefix, change);
        remains.push(prefix.clone());
        // All but this one: later writes reached the disk before it.
        let mut without = file.durable.clone();
        for (other, change) in file.pending.iter().enumerate() {
            if other != index {
                perform(&mut without, change);
            }
        }
        remains.push(without);
    }
    if prefix.len() > file.durable.len() {
        let mut zeros = file.durable.clone();
        zeros.resize(prefix.len(), 0);
        remains.push(zeros);
    }
    remains.sort_unstable();
    remains.dedup();
    // The two corners first and last: nothing of what is pending, and all of it.
    let corner = |remains: &mut Vec<Vec<u8>>, content: &Vec<u8>| {
        remains.retain(|remain| remain != content);
    };
    corner(&mut remains, &file.durable);
    corner(&mut remains, &prefix);
    remains.insert(0, file.durable.clone());
    if prefix != file.durable {
        remains.push(prefix);
    }
    remains
}

fn all(file: &File) -> Vec<u8> {
    let mut content = file.durable.clone();
    for change in &file.pending {
        perform(&mut content, change);
    }
    content
}

fn perform(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, data } => put(content, *at, data),
        Change::Length(length) => content.resize(*length, 0),
    }
}

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    if content.len() < at + data.len() {
        content.resize(at + data.len(), 0);
    }
    content[at..at + data.len()].copy_from_slice(data);
}

fn apply(naming: &Naming, names: &mut BTreeMap<PathBuf, Node>, dirs: &mut BTreeSet<PathBuf>) {
    match naming {
        Naming::Add(path, node) => {
            names.insert(path.clone(), *node);
        }
        Naming::AddDir(path) => {
            dirs.insert(path.clone());
        }
        Naming::Remove(path) => {
            names.remove(path);
            dirs.remove(path);
        }
        Naming::Exchange(one, other) => {
            if let (Some(first), Some(second)) = (names.get(one), names.get(other)) {
                let (first, second) = (*first, *second);
                names.insert(one.clone(), second);
                names.insert(other.clone(), first);
            }
        }
        Naming::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

fn drawn(draw: &mut Draw, bound: usize) -> usize {
    usize::try_from(draw.below(bound as u64)).unwrap_or(0)
}

/// The digits of a number in a system whose bases are `sizes`.
fn choice(mut number: usize, sizes: &[usize]) -> Vec<usize> {
    sizes
        .iter()
        .map(|size| {
            let digit = number % size;
            number /= size;
            digit
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Disk {
        fn sync(&mut self, path: &Path) {
            self.end_sync(self.begin_sync(path));
        }
    }

    fn contents(disk: &Disk, path: &Path) -> BTreeSet<Option<Vec<u8>>> {
        let (states, all) = disk.states(1_000, 1);
        assert!(all, "the states of so few operations are all listed");
        states
            .into_iter()
            .map(|state| state.files.get(path).cloned())
            .collect()
    }

    #[test]
    fn what_was_synced_is_in_every_state_and_the_rest_may_be_torn_or_missing() {
        let (dir, file) = (Path::new("/d"), Path::new("/d/f"));
        let mut disk = Disk::default();
        disk.dirs.insert(dir.to_owned());
        disk.durable_dirs.insert(dir.to_owned());
        disk.create(file);
        disk.write(file, Some(0), vec![1; 1_024]);
        disk.sync(file);
        assert!(
            contents(&disk, file).contains(&None),
            "a name is durable with its directory only"
        );
        disk.sync(dir);
        assert_eq!(
            contents(&disk, file),
            BTreeSet::from([Some(vec![1; 1_024])])
        );
        disk.write(file, None, vec![2; 1_024]);
        let mut torn = vec![1; 1_024];
        torn.extend([2; SECTOR]);
        let mut zeros = vec![1; 1_024];
        zeros.resize(2_048, 0);
        let mut whole = vec![1; 1_024];
        whole.extend([2; 1_024]);
        assert_eq!(
            contents(&disk, file),
            BTreeSet::from([Some(vec![1; 1_024]), Some(torn), Some(zeros), Some(whole)])
        );
    }

    #[test]
    fn a_sync_covers_what_was_there_when_it_began() {
        let (dir, a, b) = (Path::new("/d"), Path::new("/d/a"), Path::new("/d/b"));
        for everything in [false, true] {
            let begin = |disk: &Disk, path| {
                if everything {
                    disk.begin_sync_all()
                } else {
                    disk.begin_sync(path)
                }
            };
            let mut disk = Disk::default();
            disk.dirs.insert(dir.to_owned());
            disk.durable_dirs.insert(dir.to_owned());
            disk.create(a);
            disk.write(a, None, vec![1]);
            let (file, names) = (begin(&disk, a), begin(&disk, dir));
            disk.write(a, None, vec![2]);
            disk.create(b);
            disk.end_sync(file);
            disk.end_sync(names);
            assert_eq!(
                contents(&disk, a),
                BTreeSet::from([Some(vec![1]), Some(vec![1, 0]), Some(vec![1, 2])])
            );
            assert_eq!(contents(&disk, b), BTreeSet::from([None, Some(vec![])]));
            // What another sync has made durable meanwhile is not counted twice.
            let first = begin(&disk, a);
            disk.sync(a);
            disk.write(a, None, vec![3]);
            disk.end_sync(first);
            assert!(contents(&disk, a).contains(&Some(vec![1, 2])));
        }
    }

    #[test]
    fn two_names_are_exchanged_in_one_step() {
        let (dir, a, b) = (Path::new("/d"), Path::new("/d/a"), Path::new("/d/b"));
        let mut disk = Disk::default();
        disk.dirs.insert(dir.to_owned());
        disk.durable_dirs.insert(dir.to_owned());
        for (path, byte) in [(a, 1), (b, 2)] {
            disk.create(path);
            disk.write(path, None, vec![byte]);
            disk.sync(path);
        }
        disk.sync(dir);
        disk.exchange(a, b);
        let (states, _) = disk.states(100, 1);
        let pairs: BTreeSet<(Vec<u8>, Vec<u8>)> = states
            .into_iter()
            .map(|state| (state.files[a].clone(), state.files[b].clone()))
            .collect();
        assert_eq!(
            pairs,
            BTreeSet::from([(vec![1], vec![2]), (vec![2], vec![1])])
        );
    }

    #[test]
    fn names_change_in_order() {
        let (dir, a, b) = (Path::new("/d"), Path::new("/d/a"), Path::new("/d/b"));
        let mut disk = Disk::default();
        disk.dirs.insert(dir.to_owned());
        disk.durable_dirs.insert(dir.to_owned());
        disk.create(a);
        disk.rename(a, b, true);
        let (states, _) = disk.states(100, 1);
        let names: BTreeSet<Vec<PathBuf>> = states
            .into_iter()
            .map(|state| state.files.into_keys().collect())
            .collect();
        let expected = [vec![], vec![a.to_owned()], vec![b.to_owned()]];
        assert_eq!(names, BTreeSet::from(expected));
    }
}
