//! A walk through a tree on directory handles.
//!
//! Every step opens one name relative to the handle of its directory and follows no link, so the walk cannot
//! leave the tree, not even while somebody renames directories under it. Entries come sorted by name.
//! `.gitignore`, `.ignore` and `.git/info/exclude` are honored as git and ripgrep do, from the top of the
//! granted directory down; files above it are not seen.
//!
//! Invariant: memory is bounded by the depth of the tree times the size of one directory.

use std::ffi::{CStr, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::overrides::Override;
use ignore::types::Types;
use otto_sandbox::dir::{EntryKind, ScanBuffer};
use otto_sandbox::{Dir, ToolFailure, WorkerCtx};

// BOUND: one open handle per level; a worker may hold 256.
const MAX_WALK_DEPTH: usize = 100;

// BOUND: an ignore file; the rest of a larger one is not read.
const MAX_IGNORE_BYTES: u64 = 256 * 1024;

// BOUND: patterns of one ignore file; each costs compile time.
const MAX_IGNORE_PATTERNS: usize = 4_000;

// BOUND: one pattern of an ignore file; longer ones are skipped.
const MAX_IGNORE_PATTERN_BYTES: usize = 1_024;

// BOUND: names of one directory; the rest is skipped and counted.
const MAX_DIR_ENTRIES: usize = 500_000;

/// What a walk shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalkOptions<'a> {
    /// Show names that start with a dot.
    pub(crate) hidden: bool,
    /// Show what ignore files exclude.
    pub(crate) ignored: bool,
    /// Globs that win over everything else.
    pub(crate) overrides: &'a Override,
    /// Types of files.
    pub(crate) types: &'a Types,
    /// Levels below the start; 1 is the start's own entries.
    pub(crate) depth: usize,
}

/// One entry that the walk shows.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    /// The directory that holds it.
    pub(crate) dir: &'a Dir,
    /// Its name there.
    pub(crate) name: &'a CStr,
    /// Its path below the granted directory.
    pub(crate) path: &'a [u8],
    /// What it is.
    pub(crate) kind: EntryKind,
}

/// What a walk could not show.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct WalkStats {
    /// Directories that could not be opened or read, or lie too deep.
    pub(crate) unreadable: usize,
    /// Whether the walk was ended by the visitor.
    pub(crate) ended: bool,
}

/// Visits what is below `start` until `visit` returns `false`. `base` is the path of `start` below the granted
/// directory `top`, in plain components; empty for `top` itself.
pub(crate) fn walk(
    ctx: &WorkerCtx,
    top: &Dir,
    start: Dir,
    base: &str,
    options: WalkOptions<'_>,
    mut visit: impl FnMut(Visit<'_>) -> Result<bool, ToolFailure>,
) -> Result<WalkStats, ToolFailure> {
    let mut stats = WalkStats::default();
    let mut buffer = ScanBuffer::new();
    let mut path = base.as_bytes().to_vec();
    let mut rules = if options.ignored {
        Vec::new()
    } else {
        rules_above(top, base)
    };
    let mut frames: Vec<Frame> = Vec::new();
    match Frame::enter(start, path.len(), &path, options, &mut rules, &mut buffer) {
        Some(frame) => frames.push(frame),
        None => stats.unreadable += 1,
    }
    loop {
        let depth = frames.len();
        let Some(frame) = frames.last_mut() else {
            return Ok(stats);
        };
        let Some(entry) = frame.entries.next() else {
            rules.truncate(frame.outer_rules);
            frames.pop();
            continue;
        };
        ctx.check()?;
        path.truncate(frame.path_len);
        let (name, kind) = frame.entries.at(entry);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        if !is_shown(
            Path::new(OsStr::from_bytes(&path)),
            name,
            kind,
            options,
            &rules,
        ) {
            continue;
        }
        if !visit(Visit {
            dir: &frame.dir,
            name,
            path: &path,
            kind,
        })? {
            stats.ended = true;
            return Ok(stats);
        }
        if kind == EntryKind::Directory && depth < options.depth {
            let entered = (depth < MAX_WALK_DEPTH)
                .then(|| frame.dir.open_dir_entry(name).ok())
                .flatten()
                .and_then(|dir| {
                    Frame::enter(dir, path.len(), &path, options, &mut rules, &mut buffer)
                });
            match entered {
                Some(frame) => frames.push(frame),
                None => stats.unreadable += 1,
            }
        }
    }
}

/// One directory of the path that the walk is on.
struct Frame {
    dir: Dir,
    entries: Entries,
    path_len: usize,
    /// How many rules there were before those of this directory.
    outer_rules: usize,
}

impl Frame {
    fn enter(
        dir: Dir,
        path_len: usize,
        path: &[u8],
        options: WalkOptions<'_>,
        rules: &mut Vec<Rules>,
        buffer: &mut ScanBuffer,
    ) -> Option<Self> {
        let mut entries = Entries::default();
        let mut present = Present::default();
        dir.scan(buffer, |entry| {
            let name = entry.name.to_bytes();
            if name.first() == Some(&b'.') {
                present.see(name);
            }
            entries.push(entry.name, entry.kind)
        })
        .ok()?;
        entries.sort();
        let outer_rules = rules.len();
        if !options.ignored && present.any() {
            rules.extend(Rules::read(
                &dir,
                Path::new(OsStr::from_bytes(path)),
                present,
            ));
        }
        Some(Self {
            dir,
            entries,
            path_len,
            outer_rules,
        })
    }
}

/// The names of one directory in one piece of memory.
#[derive(Default)]
struct Entries {
    /// Names with their closing NUL.
    names: Vec<u8>,
    /// Where each name starts, its length with the NUL, and what it is.
    spans: Vec<(usize, usize, EntryKind)>,
    next: usize,
}

impl Entries {
    fn push(&mut self, name: &CStr, kind: EntryKind) -> bool {
        let bytes = name.to_bytes_with_nul();
        self.spans.push((self.names.len(), bytes.len(), kind));
        self.names.extend_from_slice(bytes);
        self.spans.len() < MAX_DIR_ENTRIES
    }

    fn sort(&mut self) {
        let names = &self.names;
        self.spans
            .sort_unstable_by(|a, b| names[a.0..a.0 + a.1].cmp(&names[b.0..b.0 + b.1]));
    }

    fn next(&mut self) -> Option<usize> {
        let at = self.next;
        self.next += 1;
        (at < self.spans.len()).then_some(at)
    }

    fn at(&self, index: usize) -> (&CStr, EntryKind) {
        let (start, len, kind) = self.spans[index];
        let name = CStr::from_bytes_with_nul(&self.names[start..start + len]).unwrap_or(c"");
        (name, kind)
    }
}

/// Which files with rules a directory has.
#[derive(Debug, Default, Clone, Copy)]
struct Present {
    gitignore: bool,
    ignore: bool,
    git: bool,
}

impl Present {
    const ALL: Self = Self {
        gitignore: true,
        ignore: true,
        git: true,
    };

    fn see(&mut self, name: &[u8]) {
        match name {
            b".gitignore" => self.gitignore = true,
            b".ignore" => self.ignore = true,
            b".git" => self.git = true,
            _ => {}
        }
    }

    const fn any(self) -> bool {
        self.gitignore || self.ignore || self.git
    }
}

/// The rules of one directory.
struct Rules {
    ignore: Gitignore,
    gitignore: Gitignore,
    exclude: Gitignore,
    /// It is the top of a git repository: rules of git from above do not reach into it.
    is_repository: bool,
}

impl Rules {
    fn read(dir: &Dir, at: &Path, present: Present) -> Option<Self> {
        let one = |wanted: bool, name: &CStr| {
            if wanted {
                read_rules(dir, at, name)
            } else {
                Gitignore::empty()
            }
        };
        let git = present
            .git
            .then(|| dir.open_dir_entry(c".git").ok())
            .flatten();
        let info = git
            .as_ref()
            .and_then(|git| git.open_dir_entry(c"info").ok());
        let rules = Self {
            ignore: one(present.ignore, c".ignore"),
            gitignore: one(present.gitignore, c".gitignore"),
            exclude: info.map_or_else(Gitignore::empty, |info| read_rules(&info, at, c"exclude")),
            is_repository: git.is_some(),
        };
        let useful = rules.is_repository
            || !rules.ignore.is_empty()
            || !rules.gitignore.is_empty()
            || !rules.exclude.is_empty();
        useful.then_some(rules)
    }
}

/// The rules of the directories above `base` that the grant lets us see.
fn rules_above(top: &Dir, base: &str) -> Vec<Rules> {
    let mut rules = Vec::new();
    let mut at = String::new();
    for component in base.split('/').filter(|component| !component.is_empty()) {
        let Ok(dir) = top.open_dir(if at.is_empty() { "." } else { &at }) else {
            return rules;
        };
        rules.extend(Rules::read(&dir, Path::new(&at), Present::ALL));
        if !at.is_empty() {
            at.push('/');
        }
        at.push_str(component);
    }
    rules
}

fn read_rules(dir: &Dir, at: &Path, name: &CStr) -> Gitignore {
    let Ok(open) = dir.open_entry(name) else {
        return Gitignore::empty();
    };
    let mut bytes = Vec::new();
    if open
        .file
        .take(MAX_IGNORE_BYTES)
        .read_to_end(&mut bytes)
        .is_err()
    {
        return Gitignore::empty();
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut builder = GitignoreBuilder::new(at);
    for line in text
        .trim_start_matches('\u{feff}')
        .lines()
        .take(MAX_IGNORE_PATTERNS)
    {
        if line.len() <= MAX_IGNORE_PATTERN_BYTES {
            // A pattern that is not valid is skipped, as git does.
            let _ = builder.add_line(None, line);
        }
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

/// The order of precedence of ripgrep: globs, then ignore files, then types, then hidden names.
fn is_shown(
    path: &Path,
    name: &CStr,
    kind: EntryKind,
    options: WalkOptions<'_>,
    rules: &[Rules],
) -> bool {
    let is_dir = kind == EntryKind::Directory;
    match options.overrides.matched(path, is_dir) {
        Match::Whitelist(_) => return true,
        Match::Ignore(_) => return false,
        Match::None => {}
    }
    let mut wanted = false;
    if !options.ignored {
        match ignored_by(path, is_dir, rules) {
            Match::Whitelist(()) => wanted = true,
            Match::Ignore(()) => return false,
            Match::None => {}
        }
    }
    if !options.types.is_empty() {
        match options.types.matched(path, is_dir) {
            Match::Whitelist(_) => wanted = true,
            Match::Ignore(_) => return false,
            Match::None => {}
        }
    }
    wanted || options.hidden || name.to_bytes().first() != Some(&b'.')
}

fn ignored_by(path: &Path, is_dir: bool, rules: &[Rules]) -> Match<()> {
    let mut by_git = Match::None;
    let mut by_exclude = Match::None;
    let mut left_repository = false;
    for level in rules.iter().rev() {
        let by_ignore = level.ignore.matched(path, is_dir);
        if !by_ignore.is_none() {
            return by_ignore.map(drop);
        }
        if !left_repository {
            if by_git.is_none() {
                by_git = level.gitignore.matched(path, is_dir).map(drop);
            }
            if by_exclude.is_none() {
                by_exclude = level.exclude.matched(path, is_dir).map(drop);
            }
        }
        left_repository |= level.is_repository;
    }
    by_git.or(by_exclude)
}
