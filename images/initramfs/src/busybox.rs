// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A small file system for people: busybox, and nothing else. Its program comes from elsewhere.

use std::path::{Path, PathBuf};

use staleline_support::cache::CacheDir;
use staleline_support::{digest, files};

use super::executable;

/// Environment variable: which busybox.
pub const BUSYBOX_ENV: &str = "STALELINE_BUSYBOX";

/// Where all of it is in the cache.
pub(super) const DIRECTORY: &str = "busybox";
/// What `scripts/get-busybox` has fetched there.
pub(super) const FETCHED: &str = "fetched";
/// Where it is on arm64 hosts that have it.
const OF_THE_HOST: &str = "/bin/busybox";
/// Where the guest has it.
const PROGRAM: &str = "bin/busybox";

/// Bytes of one that is taken.
const MOST: u64 = 64 << 20;

/// Why there is none for the guest.
#[derive(Debug, thiserror::Error)]
pub enum BusyboxError {
    /// Nowhere.
    #[error(
        "there is no busybox for the guest: fetch Debian's with scripts/get-busybox, name one for arm64 that \
         is linked statically (--busybox FILE, or {BUSYBOX_ENV}), or give the guest a file system with a \
         shell (--root DIR)"
    )]
    Missing,
    /// It is not what the guest can run.
    #[error("{} is no busybox for the guest: {why}", path.display())]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file of the host's.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Where it is: the one that is `named`, or that the environment names, or one that was fetched.
#[must_use]
pub fn find(cache: &CacheDir, named: Option<&Path>) -> Option<PathBuf> {
    let environment = std::env::var_os(BUSYBOX_ENV).filter(|path| !path.is_empty());
    let named = named.map(Path::to_owned);
    if let Some(path) = named.or_else(|| environment.map(PathBuf::from)) {
        return Some(path);
    }
    let host = cfg!(target_arch = "aarch64").then(|| PathBuf::from(OF_THE_HOST));
    let all = [Some(cache.join(DIRECTORY).join(FETCHED)), host];
    all.into_iter().flatten().find(|path| path.is_file())
}

/// A directory with a file system for the guest, in the cache.
///
/// # Errors
/// [`BusyboxError`].
pub fn root(cache: &CacheDir, named: Option<&Path>) -> Result<PathBuf, BusyboxError> {
    let path = find(cache, named).ok_or(BusyboxError::Missing)?;
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| BusyboxError::Io {
            action,
            path,
            source,
        }
    };
    let unfit = |why: String| BusyboxError::Unfit {
        path: path.clone(),
        why,
    };
    let data = std::fs::metadata(&path).map_err(failed("read", &path))?;
    if !data.is_file() || data.len() > MOST {
        return Err(unfit(format!("it is no file of at most {MOST} bytes")));
    }
    let elf = std::fs::read(&path).map_err(failed("read", &path))?;
    executable::check(&elf).map_err(unfit)?;
    let root = cache.join(DIRECTORY).join(digest::bytes(&elf));
    let program = root.join(PROGRAM);
    if !program.is_file() {
        files::write_atomically(&program, &elf, files::EXECUTABLE)
            .map_err(failed("write", &program))?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest file that passes for a program of the guest's: a header without segments.
    fn tiny() -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16..20].copy_from_slice(&[2, 0, 183, 0]);
        elf[20] = 1;
        elf[52] = 64;
        elf[54] = 56;
        elf
    }

    #[test]
    fn what_the_guest_can_run_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CacheDir::at(dir.path().join("cache"));
        let file = dir.path().join("file");
        std::fs::write(&file, tiny()).unwrap();
        let made = root(&cache, Some(&file)).unwrap();
        assert_eq!(std::fs::read(made.join("bin/busybox")).unwrap(), tiny());
        assert_eq!(root(&cache, Some(&file)).unwrap(), made);

        let mut foreign = tiny();
        foreign[18] = 62;
        for (bytes, why) in [(&foreign[..], "arm64"), (b"#!/bin/sh\n", "ELF")] {
            std::fs::write(&file, bytes).unwrap();
            let e = root(&cache, Some(&file)).unwrap_err();
            assert!(matches!(e, BusyboxError::Unfit { .. }), "{e}");
            assert!(e.to_string().contains(why), "{e}");
        }
        let e = root(&cache, Some(dir.path())).unwrap_err();
        assert!(matches!(e, BusyboxError::Unfit { .. }), "{e}");
        let e = root(&cache, Some(&dir.path().join("none"))).unwrap_err();
        assert!(matches!(e, BusyboxError::Io { action: "read", .. }), "{e}");
    }
}
