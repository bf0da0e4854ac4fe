// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Standard input of `staleline exec` and `staleline shell`, for the program. The guest gets all of it at once, so that its run
//! depends on what is in it and not on when it came; and it is kept, so that the run can be done again.

use std::io::{IsTerminal as _, Read};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use staleline_support::cache::CacheDir;

use crate::exit::Error;
use crate::scenario::exec::STDIN_KEPT;

/// As much as is passed on.
const MOST: u64 = 1 << 20;

/// Who waits longer than this for its end is told what for.
const PATIENCE: Duration = Duration::from_secs(3);

/// A file with what is there to be read, in the cache; none if that is nothing, or comes from a terminal.
///
/// # Errors
/// If it cannot be read or kept, or is too much.
pub fn kept() -> Result<Option<PathBuf>, Error> {
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let bytes = waited_for()?;
    if bytes.is_empty() {
        return Ok(None);
    }
    kept_in_cache(&bytes).map(Some)
}

/// The same for a program that wants some, though it be nothing, and from wherever it comes.
///
/// # Errors
/// As [`kept`].
pub fn all_kept() -> Result<PathBuf, Error> {
    kept_in_cache(&waited_for()?)
}

fn kept_in_cache(bytes: &[u8]) -> Result<PathBuf, Error> {
    let cache = CacheDir::from_environment().map_err(|e| Error::Initramfs(e.into()))?;
    keep(&cache, bytes)
}

fn waited_for() -> Result<Vec<u8>, Error> {
    let (sender, receiver) = mpsc::channel();
    // Who gives up leaves it behind.
    thread::spawn(move || sender.send(all(std::io::stdin().lock())));
    let read = receiver.recv_timeout(PATIENCE).or_else(|_| {
        anstream::eprintln!(
            "note: waiting for the end of standard input, which is for the program; </dev/null says that \
             there is none"
        );
        receiver.recv()
    });
    read.unwrap_or_else(|_| Ok(Vec::new()))
}

fn all(input: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    input
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::host("cannot read standard input", e))?;
    if bytes.len() as u64 > MOST {
        return Err(Error::Option {
            option: "standard input".into(),
            why: format!(
                "there are more than {MOST} bytes of it: give the program a file instead (--stdin FILE)"
            ),
        });
    }
    Ok(bytes)
}

fn keep(cache: &CacheDir, bytes: &[u8]) -> Result<PathBuf, Error> {
    let kept = cache.keep(STDIN_KEPT, "", bytes);
    let (path, _) = kept.map_err(|e| Error::host("cannot keep standard input", e))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_by_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CacheDir::at(dir.path());
        let path = keep(&cache, b"one").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(keep(&cache, b"one").unwrap(), path);
        assert_ne!(keep(&cache, b"two").unwrap(), path);
    }

    #[test]
    fn too_much_of_it_is_refused() {
        let most = usize::try_from(MOST).unwrap();
        assert_eq!(all(&vec![1; most][..]).unwrap().len(), most);
        let e = all(std::io::repeat(1)).unwrap_err();
        assert_eq!(e.exit_code(), crate::exit::USAGE);
        assert!(e.to_string().contains("more than 1048576"), "{e}");
    }
}
