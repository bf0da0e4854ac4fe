// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a guest is given beside the agent: an archive of its own, which the kernel unpacks before the
//! agent's. What both have is the agent's. Each file is read once: what is looked at, what is hashed and
//! what the guest gets are the same bytes, whatever happens to the file meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cpio::NewcBuilder;
use staleline_support::cache::CacheDir;
use staleline_support::digest::{self, FieldHasher};
use walkdir::WalkDir;

use super::contents::Contents;
use super::error::InitramfsError;
use super::input::Input;
use super::programs;
use super::{Initramfs, keep};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;
/// The agent's name, without the slash.
const INIT: &[u8] = b"init";

/// All that a guest is given, read.
#[derive(Debug)]
pub struct Inputs {
    hashed: Vec<(Input, String)>,
    /// By its name from the top, without the slash.
    pub(super) entries: BTreeMap<Vec<u8>, Entry>,
}

/// One entry of the archive.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Directory,
    File { mode: u32, bytes: Arc<[u8]> },
    Link(Vec<u8>),
}

impl Inputs {
    /// Reads a program, what it needs of libraries, and what is `given` besides; of what has one name,
    /// the last counts. Libraries are looked for in `places` first.
    ///
    /// # Errors
    /// [`InitramfsError::TooLarge`] if they have more than `most` bytes; trouble with a file.
    pub fn read(
        program: Option<&Input>,
        given: &[Input],
        places: &[PathBuf],
        most: u64,
    ) -> Result<Self, InitramfsError> {
        let mut contents = Contents::new(most);
        let listed = |input: &Input, contents: &mut Contents| {
            let entries = listing(input, contents)?;
            let hash = hash(input, &entries);
            Ok::<_, InitramfsError>((input.clone(), hash, entries))
        };
        // First what was asked for by name: of that, people know at once what is wrong.
        let mut rest = Vec::new();
        for input in given {
            rest.push(listed(input, &mut contents)?);
        }
        let mut all = Vec::new();
        if let Some(program) = program {
            for input in programs::closure(program, given, places, &mut contents)? {
                all.push(listed(&input, &mut contents)?);
            }
        }
        all.append(&mut rest);
        let mut inputs = Inputs {
            hashed: Vec::new(),
            entries: BTreeMap::new(),
        };
        for (input, hash, entries) in all {
            for (name, entry) in entries {
                let clash = |name: &[u8]| InitramfsError::Clash {
                    path: input.host.clone(),
                    guest: format!("/{}", String::from_utf8_lossy(name)),
                };
                inputs.insert(name, entry).map_err(|name| clash(&name))?;
            }
            inputs.hashed.push((input, hash));
        }
        Ok(inputs)
    }

    /// What was read, in order, each with its SHA-256 in hexadecimal; of a directory, over all names,
    /// modes and contents.
    pub fn hashed(&self) -> &[(Input, String)] {
        &self.hashed
    }

    /// An archive of this with the agent's behind it, in the cache, and its hash.
    ///
    /// # Errors
    /// Trouble with a file.
    pub fn pack(
        &self,
        agent: &Initramfs,
        cache: &CacheDir,
    ) -> Result<(PathBuf, String), InitramfsError> {
        let mut archive = Vec::new();
        self.write(&mut archive)?;
        // The kernel skips zeros between archives; each starts at a multiple of 4 bytes.
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(fs::read(&agent.path).map_err(InitramfsError::io("read", &agent.path))?);
        keep(&archive, cache)
    }

    /// With the directories above it. A directory that is there already stays as it is, and so does a link,
    /// which may lead to one.
    ///
    /// # Errors
    /// A name that would be both a directory and something else.
    fn insert(&mut self, name: Vec<u8>, entry: Entry) -> Result<(), Vec<u8>> {
        for (at, _) in name.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let above = name.get(..at).unwrap_or_default().to_vec();
            if let Entry::File { .. } = self
                .entries
                .entry(above.clone())
                .or_insert(Entry::Directory)
            {
                return Err(above);
            }
        }
        let there = self.entries.get(&name);
        match (there, &entry) {
            (Some(Entry::File { .. }), Entry::Directory)
            | (Some(Entry::Directory), Entry::File { .. } | Entry::Link(_)) => return Err(name),
            (Some(Entry::Link(_)), Entry::Directory) => return Ok(()),
            // The agent comes in its place.
            (_, Entry::Directory) if name == INIT => return Err(name),
            _ => {}
        }
        self.entries.insert(name, entry);
        Ok(())
    }

    /// Writes the archive. Times and owners are zero, inode numbers count from 1.
    fn write(&self, out: &mut impl Write) -> Result<(), InitramfsError> {
        let failed = |e: io::Error| InitramfsError::io("pack", Path::new("the guest's files"))(e);
        for (ino, (name, entry)) in (1..).zip(&self.entries) {
            let name = String::from_utf8_lossy(name);
            let head = NewcBuilder::new(&name).ino(ino);
            let (mode, bytes) = match entry {
                Entry::Directory => (DIRECTORY, &[][..]),
                Entry::Link(target) => (LINK, &target[..]),
                Entry::File { mode, bytes } => (*mode, &bytes[..]),
            };
            let size = u32::try_from(bytes.len())
                .map_err(|_| failed(io::Error::other("a file is larger than 4 GiB")))?;
            let mut entry = head.mode(mode).write(&mut *out, size);
            entry.write_all(bytes).map_err(failed)?;
            entry.finish().map_err(failed)?;
        }
        cpio::newc::trailer(out).map_err(failed)?;
        Ok(())
    }
}

/// What an input comes to.
fn listing(
    input: &Input,
    contents: &mut Contents,
) -> Result<Vec<(Vec<u8>, Entry)>, InitramfsError> {
    let top = input.guest.trim_matches('/').as_bytes().to_vec();
    let read = |path: &Path| fs::metadata(path).map_err(InitramfsError::io("read", path));
    if !read(&input.host)?.is_dir() {
        // As it was named, a link is what it leads to.
        return Ok(vec![(top, file(&input.host, contents)?)]);
    }
    let mut entries = Vec::new();
    for entry in WalkDir::new(&input.host).sort_by_file_name() {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(&input.host).to_owned();
            InitramfsError::io("read", &path)(e.into())
        })?;
        let path = entry.path();
        let below = path.strip_prefix(&input.host).unwrap_or(path);
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
            file(path, contents)?
        } else {
            // Devices and the like are the guest's own.
            continue;
        };
        if !name.is_empty() {
            entries.push((name, what));
        }
    }
    Ok(entries)
}

fn file(path: &Path, contents: &mut Contents) -> Result<Entry, InitramfsError> {
    let found = fs::metadata(path).map_err(InitramfsError::io("read", path))?;
    if !found.is_file() {
        return Err(InitramfsError::io("pack", path)(io::Error::other(
            "it is neither a file nor a directory",
        )));
    }
    Ok(Entry::File {
        mode: FILE | found.permissions().mode() & 0o7777,
        bytes: contents.read(path)?,
    })
}

/// SHA-256 of what an input comes to.
fn hash(input: &Input, entries: &[(Vec<u8>, Entry)]) -> String {
    if let [(_, Entry::File { bytes, .. })] = entries
        && !input.host.is_dir()
    {
        return digest::bytes(bytes);
    }
    let mut hasher = FieldHasher::default();
    for (name, entry) in entries {
        hasher.field(name);
        match entry {
            Entry::Directory => hasher.field(b"directory"),
            Entry::Link(target) => hasher.field(target),
            Entry::File { mode, bytes } => {
                hasher.field(mode.to_le_bytes());
                hasher.field(bytes);
            }
        }
    }
    hasher.finish()
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
        let given = [
            Input {
                host: root,
                guest: "/".into(),
            },
            Input {
                host: own.clone(),
                guest: "/root/a b/own".into(),
            },
            Input {
                host: own,
                guest: "/usr/bin/tool".into(),
            },
        ];
        let inputs = Inputs::read(None, &given, &[], 7).unwrap();
        let too_large = Inputs::read(None, &given, &[], 6).unwrap_err();
        assert!(matches!(too_large, InitramfsError::TooLarge { most: 6 }));
        let mut archive = Vec::new();
        inputs.write(&mut archive).unwrap();
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
        let twin = Inputs::read(None, &given, &[], 7).unwrap();
        twin.write(&mut again).unwrap();
        assert_eq!(archive, again);
        assert_eq!(inputs.hashed(), twin.hashed());
        assert_eq!(inputs.hashed()[1].1, digest::bytes(b"own"));
    }

    #[test]
    fn a_name_that_would_be_two_things_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("root/root/sub")).unwrap();
        fs::create_dir_all(path("bad/init")).unwrap();
        fs::create_dir_all(path("links/to")).unwrap();
        std::os::unix::fs::symlink("/elsewhere", path("links/to/root")).unwrap();
        std::os::unix::fs::symlink("usr/lib", path("root/lib")).unwrap();
        fs::write(path("file"), "x").unwrap();
        let clash = |given: &[(&str, &str)]| {
            let given: Vec<_> = given
                .iter()
                .map(|(host, guest)| Input {
                    host: path(host),
                    guest: (*guest).into(),
                })
                .collect();
            match Inputs::read(None, &given, &[], 99) {
                Err(InitramfsError::Clash { guest, .. }) => Some(guest),
                other => other.map(|_| None).unwrap(),
            }
        };
        let told = |guest: &str| Some(guest.to_owned());
        assert_eq!(clash(&[("file", "/a"), ("file", "/a/b")]), told("/a"));
        assert_eq!(clash(&[("file", "/a/b"), ("file", "/a")]), told("/a"));
        assert_eq!(clash(&[("root", "/"), ("file", "/root")]), told("/root"));
        assert_eq!(clash(&[("file", "/root"), ("root", "/")]), told("/root"));
        assert_eq!(clash(&[("root", "/"), ("links/to", "/")]), told("/root"));
        assert_eq!(clash(&[("bad", "/")]), told("/init"));
        // What a link leads to is not known here.
        assert_eq!(clash(&[("root", "/"), ("file", "/lib/x")]), None);
        assert_eq!(clash(&[("links/to", "/"), ("root", "/")]), None);
        assert_eq!(clash(&[("file", "/a"), ("file", "/a")]), None);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let none = [Input {
            host: "/nonexistent/x".into(),
            guest: "/x".into(),
        }];
        let e = Inputs::read(None, &none, &[], 9).unwrap_err();
        assert!(e.to_string().contains("/nonexistent/x"), "{e}");
        let device = [Input {
            host: "/dev/null".into(),
            guest: "/x".into(),
        }];
        assert!(Inputs::read(None, &device, &[], 9).is_err());
    }
}
