// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a guest has in its file system beside the agent: an archive of its own, which the kernel unpacks
//! before the agent's. What both have is the agent's.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cpio::NewcBuilder;
use staleline_support::digest::{self, FieldHasher};
use walkdir::WalkDir;

use super::error::InitramfsError;

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;

/// A file or directory of the host, and where the guest finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// On the host. What is below a directory comes with it.
    pub from: PathBuf,
    /// In the guest, from `/`.
    pub to: String,
}

impl Extra {
    /// SHA-256 of it, in hexadecimal; of a directory, over all names, modes and contents.
    ///
    /// # Errors
    /// Trouble with a file.
    pub fn hash(&self) -> Result<String, InitramfsError> {
        if !self.from.is_dir() {
            return Ok(digest::bytes(&read(&self.from)?));
        }
        let mut hasher = FieldHasher::default();
        for (name, entry) in Listing::of(std::slice::from_ref(self))?.entries {
            hasher.field(&name);
            match entry {
                Entry::Directory => hasher.field(b"directory"),
                Entry::Link(target) => hasher.field(&target),
                Entry::File { from, mode, .. } => {
                    hasher.field(mode.to_le_bytes());
                    hasher.field(&read(&from)?);
                }
            }
        }
        Ok(hasher.finish())
    }
}

/// One entry of the archive.
enum Entry {
    Directory,
    File {
        from: PathBuf,
        mode: u32,
        bytes: u64,
    },
    Link(Vec<u8>),
}

/// All that is packed, by its name from the top, without the slash.
pub(super) struct Listing {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Listing {
    /// Of all these; of what has one name, the last counts.
    pub fn of(extras: &[Extra]) -> Result<Self, InitramfsError> {
        let mut all = Listing {
            entries: BTreeMap::new(),
            bytes: 0,
        };
        for extra in extras {
            all.add(extra)?;
        }
        let files = all.entries.values().map(|entry| match entry {
            Entry::File { bytes, .. } => *bytes,
            _ => 0,
        });
        all.bytes = files.sum();
        Ok(all)
    }

    fn add(&mut self, extra: &Extra) -> Result<(), InitramfsError> {
        let top = extra.to.trim_matches('/').as_bytes().to_vec();
        let found = fs::metadata(&extra.from).map_err(InitramfsError::io("read", &extra.from))?;
        if !found.is_dir() {
            // As it was named, a link is what it leads to.
            self.insert(top, file(&extra.from, &found)?);
            return Ok(());
        }
        for entry in WalkDir::new(&extra.from).sort_by_file_name() {
            let entry = entry.map_err(|e| {
                let path = e.path().unwrap_or(&extra.from).to_owned();
                InitramfsError::io("read", &path)(e.into())
            })?;
            let path = entry.path();
            let below = path.strip_prefix(&extra.from).unwrap_or(path);
            let mut name = top.clone();
            if !below.as_os_str().is_empty() {
                if !name.is_empty() {
                    name.push(b'/');
                }
                name.extend_from_slice(below.as_os_str().as_bytes());
            }
            let kind = entry.file_type();
            let what = if kind.is_dir() {
                Entry::Directory
            } else if kind.is_symlink() {
                let target = fs::read_link(path).map_err(InitramfsError::io("read", path))?;
                Entry::Link(target.into_os_string().as_bytes().to_vec())
            } else if kind.is_file() {
                let found = fs::metadata(path).map_err(InitramfsError::io("read", path))?;
                file(path, &found)?
            } else {
                // Devices and the like are the guest's own.
                continue;
            };
            if !name.is_empty() {
                self.insert(name, what);
            }
        }
        Ok(())
    }

    /// With the directories above it.
    fn insert(&mut self, name: Vec<u8>, entry: Entry) {
        for (at, _) in name.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let above = name.get(..at).unwrap_or_default().to_vec();
            self.entries.entry(above).or_insert(Entry::Directory);
        }
        self.entries.insert(name, entry);
    }

    /// Writes the archive. Times and owners are zero, inode numbers count from 1.
    pub fn write(&self, out: &mut impl Write) -> Result<(), InitramfsError> {
        let failed = |e: io::Error| InitramfsError::io("pack", Path::new("the guest's files"))(e);
        for (ino, (name, entry)) in (1..).zip(&self.entries) {
            let name = String::from_utf8_lossy(name);
            let head = NewcBuilder::new(&name).ino(ino);
            match entry {
                Entry::Directory => {
                    head.mode(DIRECTORY)
                        .write(&mut *out, 0)
                        .finish()
                        .map_err(failed)?;
                }
                Entry::Link(target) => {
                    let size = u32::try_from(target.len()).unwrap_or(u32::MAX);
                    let mut link = head.mode(LINK).write(&mut *out, size);
                    link.write_all(target).map_err(failed)?;
                    link.finish().map_err(failed)?;
                }
                Entry::File { from, mode, .. } => {
                    let bytes = read(from)?;
                    let size = u32::try_from(bytes.len())
                        .map_err(|_| failed(io::Error::other("a file is larger than 4 GiB")))?;
                    let mut file = head.mode(*mode).write(&mut *out, size);
                    file.write_all(&bytes).map_err(failed)?;
                    file.finish().map_err(failed)?;
                }
            }
        }
        cpio::newc::trailer(out).map_err(failed)?;
        Ok(())
    }
}

fn file(path: &Path, found: &fs::Metadata) -> Result<Entry, InitramfsError> {
    if !found.is_file() {
        return Err(InitramfsError::io("pack", path)(io::Error::other(
            "it is neither a file nor a directory",
        )));
    }
    Ok(Entry::File {
        from: path.to_owned(),
        mode: FILE | found.permissions().mode() & 0o7777,
        bytes: found.len(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, InitramfsError> {
    fs::read(path).map_err(InitramfsError::io("read", path))
}

#[cfg(test)]
mod tests {
    use cpio::NewcReader;

    use super::*;

    fn names(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut rest = archive;
        let mut found = Vec::new();
        loop {
            let reader = NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = Vec::new();
            rest = reader.to_writer(&mut content).unwrap();
            found.push((name, mode, content));
        }
    }

    #[test]
    fn files_come_with_the_directories_above_and_below() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/tool"), "tool").unwrap();
        std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
        let own = dir.path().join("own");
        fs::write(&own, "own").unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o751)).unwrap();
        let extras = [
            Extra {
                from: root,
                to: "/".into(),
            },
            Extra {
                from: own.clone(),
                to: "/root/a b/own".into(),
            },
            Extra {
                from: own,
                to: "/usr/bin/tool".into(),
            },
        ];
        let listing = Listing::of(&extras).unwrap();
        assert_eq!(listing.bytes, 6);
        let mut archive = Vec::new();
        listing.write(&mut archive).unwrap();
        let found = names(&archive);
        let modes: Vec<_> = found
            .iter()
            .map(|(n, mode, _)| (n.as_str(), *mode))
            .collect();
        assert_eq!(
            modes,
            [
                ("bin", LINK),
                ("root", DIRECTORY),
                ("root/a b", DIRECTORY),
                ("root/a b/own", FILE | 0o751),
                ("usr", DIRECTORY),
                ("usr/bin", DIRECTORY),
                ("usr/bin/tool", FILE | 0o751),
            ]
        );
        assert_eq!(found[0].2, b"usr/bin");
        assert_eq!(found[6].2, b"own", "the last of one name counts");
        let mut again = Vec::new();
        let twin = Listing::of(&extras).unwrap();
        twin.write(&mut again).unwrap();
        assert_eq!(archive, again);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let none = [Extra {
            from: "/nonexistent/x".into(),
            to: "/x".into(),
        }];
        let e = Listing::of(&none).err().unwrap();
        assert!(e.to_string().contains("/nonexistent/x"), "{e}");
        let device = [Extra {
            from: "/dev/null".into(),
            to: "/x".into(),
        }];
        assert!(Listing::of(&device).is_err());
    }
}
