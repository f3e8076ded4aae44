//! Writing the files of many artifacts with few syncs.
//!
//! The recipe of `durable`, step by step for a whole batch: all temporary files, one sync, all renames, one
//! sync. A few files are synced one by one; more of them share a sync of their file system.
//!
//! A file that cannot be written costs its job the batch, not the others; nobody waits for it, and what belongs into it
//! is in the database.
//!
//! Invariant: a job is reported only when all its files are durable under their names.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use otto_core::SessionId;
use rustix::fs::{OFlags, RenameFlags, fstatfs, fsync, mkdirat, renameat_with};
use rustix::io::Errno;

use crate::artifacts::Content;
use crate::artifacts::backlog::Origin;
use crate::artifacts::disk::{Disk, SESSIONS};
use crate::artifacts::durable::{checksum, write_all};
use crate::state_dir::{DIR_MODE, open_dir, open_file, open_or_create_dir, remove_file};

/// Up to this many files are synced one by one: a sync of the file system waits for what others write, too.
const ONE_BY_ONE_MAX: usize = 8;

/// Files that belong together, with their contents.
pub(super) struct Job {
    pub(super) session: SessionId,
    pub(super) origin: Origin,
    pub(super) files: Vec<Content>,
}

/// A job whose temporary files are written.
struct Begun<'a> {
    job: &'a Job,
    dir: OwnedFd,
    temps: Vec<String>,
}

impl Disk {
    /// Writes the files of a batch durably; says of each job whether all its files are there, as they are of one that has
    /// none.
    pub(super) fn write_batch(&self, jobs: &[Job]) -> Vec<bool> {
        let mut done: Vec<bool> = jobs.iter().map(|job| job.files.is_empty()).collect();
        let count: usize = jobs.iter().map(|job| job.files.len()).sum();
        // The file system that the files are on, which need not be that of the database.
        let shared = if count > ONE_BY_ONE_MAX {
            open_or_create_dir(self.state_dir_handle(), SESSIONS)
                .ok()
                .filter(can_share_syncs)
        } else {
            None
        };
        let mut begun: Vec<(usize, Begun<'_>)> = jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| !job.files.is_empty())
            .filter_map(|(at, job)| Some((at, self.begin(job, shared.is_none()).ok()?)))
            .collect();
        let sync_all = |step| shared.as_ref().map_or(Ok(()), |of| self.sync_all(step, of));
        if sync_all("sync derived files").is_err() {
            for (_, begun) in &begun {
                begun.give_up();
            }
            return done;
        }
        begun.retain(|(_, begun)| match self.name_files(begun) {
            Ok(()) => true,
            Err(_) => {
                begun.give_up();
                false
            }
        });
        let synced = sync_all("sync derived names").is_ok();
        for (at, begun) in begun {
            let durable = synced
                && (shared.is_some() || self.sync_one("sync derived names", &begun.dir).is_ok());
            if !durable {
                // Whether the names survive is unknown, so they must not stay for a later sync to vouch for.
                begun.take_back();
            }
            done[at] = durable;
        }
        done
    }

    /// Writes the temporary files of a job.
    fn begin<'a>(&self, job: &'a Job, one_by_one: bool) -> Result<Begun<'a>, Errno> {
        let mut begun = Begun {
            job,
            dir: self.session_dir(job.session, one_by_one)?,
            temps: Vec::with_capacity(job.files.len()),
        };
        for (_, content) in &job.files {
            let temp = self.temp_name();
            let written = self.write_temp(&begun.dir, &temp, content, one_by_one);
            begun.temps.push(temp);
            if let Err(errno) = written {
                begun.give_up();
                return Err(errno);
            }
        }
        Ok(begun)
    }

    fn write_temp(
        &self,
        dir: &OwnedFd,
        temp: &str,
        content: &[u8],
        sync: bool,
    ) -> Result<(), Errno> {
        self.reach("write derived file")?;
        let file = open_file(dir, temp, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        write_all(&file, content, &|_| Ok(()))?;
        if sync {
            self.sync_one("sync derived file", &file)?;
        }
        Ok(())
    }

    /// The directory of a session, created if it is missing; durably if its files are synced one by one.
    fn session_dir(&self, session: SessionId, one_by_one: bool) -> Result<OwnedFd, Errno> {
        let sessions = open_or_create_dir(self.state_dir_handle(), SESSIONS)?;
        let name = session.to_string();
        if one_by_one {
            return open_or_create_dir(&sessions, &name);
        }
        match mkdirat(&sessions, &name, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => open_dir(&sessions, &name),
            Err(errno) => Err(errno),
        }
    }

    fn name_files(&self, begun: &Begun<'_>) -> Result<(), Errno> {
        for ((name, content), temp) in begun.job.files.iter().zip(&begun.temps) {
            self.reach("rename derived file")?;
            match renameat_with(
                &begun.dir,
                temp,
                &begun.dir,
                &**name,
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => {}
                // Somebody else wrote it, from what the database has. Another content is not ours to replace.
                Err(Errno::EXIST) if self.has(begun.job.session, name, content) => {
                    remove_file(&begun.dir, temp)?;
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn has(&self, session: SessionId, name: &str, content: &[u8]) -> bool {
        self.examine(session, name)
            .is_ok_and(|found| found.is_some_and(|found| found.sha256 == checksum(content)))
    }

    fn sync_one(&self, step: &'static str, file: &OwnedFd) -> Result<(), Errno> {
        self.reach(step)?;
        fsync(file)
    }

    /// Syncs everything on the file system of the sessions, and so everything of the batch.
    fn sync_all(&self, step: &'static str, sessions: &OwnedFd) -> Result<(), Errno> {
        self.reach(step)?;
        sync_file_system(sessions.as_fd())
    }
}

impl Begun<'_> {
    /// Removes temporary files. Should that fail, too, the next check of the directory removes them.
    fn give_up(&self) {
        for temp in &self.temps {
            let _ = remove_file(&self.dir, temp);
        }
    }

    /// Removes the files again. What stays all the same is compared with its content before it counts.
    fn take_back(&self) {
        for (name, _) in &self.job.files {
            let _ = remove_file(&self.dir, name);
        }
    }
}

/// Whether a sync of the file system makes everything on it durable, and says what went wrong: Linux says it of data
/// since 5.8 and of all the rest since 5.17, and of file systems only those are asked that are known to pass it on to the
/// disk (one in user space is not).
/// Source: syncfs(2), section on return values; Linux, fs/sync.c; statfs(2) for the numbers.
fn can_share_syncs(of: &OwnedFd) -> bool {
    const KNOWN: [i128; 5] = [
        0xEF53,      // ext2, ext3, ext4
        0x5846_5342, // XFS
        0x9123_683E, // Btrfs
        0xF2F5_2010, // F2FS
        0x0102_1994, // tmpfs: nothing to make durable
    ];
    let is_known = || {
        // The field has another type on each architecture; the numbers have 32 bits.
        fstatfs(of)
            .is_ok_and(|stat| KNOWN.contains(&(i128::from(stat.f_type) & i128::from(u32::MAX))))
    };
    let name = rustix::system::uname();
    cfg!(target_os = "linux") && name.release().to_str().is_ok_and(is_since_5_17) && is_known()
}

fn is_since_5_17(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= (5, 17))
}

#[cfg(target_os = "linux")]
fn sync_file_system(of: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::syncfs(of)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: BorrowedFd<'_>) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_hide_errors_are_known() {
        for (release, expected) in [
            ("6.18.44-fc-v595", true),
            ("5.17.0", true),
            ("5.16.20", false),
            ("5.8", false),
            ("4.19", false),
            ("10.0", true),
            ("odd", false),
            ("", false),
        ] {
            assert_eq!(is_since_5_17(release), expected, "{release}");
        }
    }
}
