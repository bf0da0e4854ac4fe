// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Who uses a file or directory. The lock is on itself, so that nothing is left behind, and ends with the
//! process, however that ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How often what is locked may be replaced meanwhile.
const REPLACED: usize = 16;

/// It is in use as long as this lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// For the only one that uses it; none if anybody else does.
    ///
    /// # Errors
    /// That it cannot be opened.
    pub fn alone(path: &Path) -> io::Result<Option<Self>> {
        Self::take(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// For one of many that only read it; none if it is about to go.
    ///
    /// # Errors
    /// That it cannot be opened.
    pub fn shared(path: &Path) -> io::Result<Option<Self>> {
        Self::take(path, FlockOperation::NonBlockingLockShared)
    }

    /// As [`Lock::shared`], and notes that it is used now: what was not for long can go.
    ///
    /// # Errors
    /// That it cannot be opened.
    pub fn using(path: &Path) -> io::Result<Option<Self>> {
        let lock = Self::shared(path)?;
        if let Some(lock) = &lock {
            // A cache that somebody else has filled is not ours to write to.
            let _ = lock.file.set_modified(SystemTime::now());
        }
        Ok(lock)
    }

    fn take(path: &Path, how: FlockOperation) -> io::Result<Option<Self>> {
        for _ in 0..REPLACED {
            let file = File::open(path)?;
            match flock(&file, how) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                // File systems without locks: nobody can be kept out there.
                Err(Errno::NOSYS | Errno::NOTSUP | Errno::NOLCK | Errno::BADF | Errno::INVAL) => {}
                Err(e) => return Err(e.into()),
            }
            // It may have been replaced since it was opened: two who find nothing make the same, and one of them
            // is later. Then what is there now is what counts.
            let (opened, there) = (file.metadata()?, fs::metadata(path)?);
            if (opened.dev(), opened.ino()) == (there.dev(), there.ino()) {
                return Ok(Some(Lock { file }));
            }
        }
        Ok(None)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not by closing it alone: a child that another thread has just forked has a copy, until it runs its
        // program. If it cannot be given up, that is how it ends.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn use_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let modified = || fs::metadata(dir.path()).unwrap().modified().unwrap();
        let old = SystemTime::UNIX_EPOCH;
        File::open(dir.path()).unwrap().set_modified(old).unwrap();
        drop(Lock::shared(dir.path()).unwrap().unwrap());
        assert_eq!(modified(), old);
        drop(Lock::using(dir.path()).unwrap().unwrap());
        assert!(modified() > old);
    }

    #[test]
    fn it_ends_though_somebody_has_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::alone(dir.path()).unwrap().unwrap();
        // As a fork makes one.
        let _copy = lock.file.try_clone().unwrap();
        assert!(Lock::alone(dir.path()).unwrap().is_none());
        drop(lock);
        assert!(Lock::alone(dir.path()).unwrap().is_some());
    }

    #[test]
    fn what_others_replace_is_locked_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part");
        let replace = || {
            let new = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
            new.persist(&path).unwrap();
        };
        replace();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    replace();
                    thread::sleep(Duration::from_micros(50));
                }
            });
            let missed = (0..2000).filter(|_| Lock::using(&path).unwrap().is_none());
            let missed = missed.count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(missed, 0);
        });
    }

    #[test]
    fn many_read_and_one_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let first = Lock::shared(path).unwrap().unwrap();
        let second = Lock::shared(path).unwrap().unwrap();
        assert!(Lock::alone(path).unwrap().is_none());
        drop((first, second));
        let alone = Lock::alone(path).unwrap().unwrap();
        assert!(Lock::alone(path).unwrap().is_none());
        assert!(Lock::shared(path).unwrap().is_none());
        drop(alone);
        assert!(Lock::shared(path).unwrap().is_some());
        assert!(Lock::shared(&path.join("none")).is_err());
    }
}
