// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is in a source tree, by content, learnt without reading everything each time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

use staleline_support::digest::{self, FieldHasher};
use staleline_support::files;
use staleline_support::progress::{Counted, Progress};
use walkdir::{DirEntry, WalkDir};

use super::error::KernelError;

/// Every file of a tree with the hash of its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest(pub(super) BTreeMap<String, Entry>);

/// One regular file or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Nanoseconds since 1970. With the size, tells whether the hash is still good.
    mtime: u128,
    size: u64,
    pub(super) executable: bool,
    /// Hash of the content; for a link, its target behind `->`.
    pub(super) content: String,
}

impl Entry {
    /// The target, if this is a symbolic link.
    pub(super) fn link_target(&self) -> Option<&str> {
        self.content.strip_prefix("->")
    }

    /// Whether both would look the same in a copy.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        self.content == other.content && self.executable == other.executable
    }
}

impl Manifest {
    /// Scans `root`, but for the directory `without` in it. Hashes found in the file `memo` are used for what
    /// has not changed since; the result is written there.
    pub(super) fn scan(
        root: &Path,
        without: Option<&Path>,
        memo: &Path,
        progress: &dyn Progress,
    ) -> Result<Self, KernelError> {
        let known = Self::load(memo).unwrap_or_default();
        if known.0.is_empty() {
            progress.begin("reading the source tree", Counted::of("files", None));
        }
        let mut manifest = Self::default();
        let walk = WalkDir::new(root)
            .into_iter()
            .filter_entry(|entry| !is_artefact(root, entry) && without != Some(entry.path()));
        for entry in walk {
            let entry = entry.map_err(|error| {
                KernelError::io("read", root)(
                    error
                        .into_io_error()
                        .unwrap_or_else(|| io::Error::other("a loop of links")),
                )
            })?;
            if entry.file_type().is_dir() {
                continue;
            }
            let path = entry.path();
            let name = relative(root, path).ok_or_else(|| KernelError::BadSource {
                path: path.to_owned(),
                reason: "its name is no UTF-8 text or holds a line break".to_owned(),
            })?;
            let scanned =
                Self::scan_file(path, known.0.get(&name)).map_err(KernelError::io("read", path))?;
            if let Some(scanned) = scanned {
                if known.0.is_empty() {
                    progress.advance(&name);
                }
                manifest.0.insert(name, scanned);
            }
        }
        if manifest != known {
            manifest.save(memo)?;
        }
        Ok(manifest)
    }

    fn scan_file(path: &Path, known: Option<&Entry>) -> io::Result<Option<Entry>> {
        let metadata = fs::symlink_metadata(path)?;
        let mtime = metadata
            .modified()?
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let size = metadata.size();
        if metadata.is_symlink() {
            let target = fs::read_link(path)?;
            let content = format!("->{}", target.to_string_lossy());
            return Ok(Some(Entry {
                mtime,
                size,
                executable: false,
                content,
            }));
        }
        if !metadata.is_file() {
            // Sockets and the like are no source.
            return Ok(None);
        }
        let executable = metadata.permissions().mode() & 0o100 != 0;
        let content = match known {
            Some(known) if known.mtime == mtime && known.size == size => known.content.clone(),
            _ => digest::file(path)?,
        };
        Ok(Some(Entry {
            mtime,
            size,
            executable,
            content,
        }))
    }

    /// Hash over names, contents and permissions; not over times.
    pub(super) fn digest(&self) -> String {
        let mut hasher = FieldHasher::default();
        for (name, entry) in &self.0 {
            hasher.named(name, &entry.content);
            hasher.named("executable", [u8::from(entry.executable)]);
        }
        hasher.finish()
    }

    /// Reads what [`save`](Self::save) wrote; `None` if there is nothing usable.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut manifest = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(4, ' ');
            let mtime = fields.next()?.parse().ok()?;
            let size = fields.next()?.parse().ok()?;
            let executable = fields.next()? == "x";
            let (content, name) = fields.next()?.split_once('\t')?;
            let entry = Entry {
                mtime,
                size,
                executable,
                content: content.to_owned(),
            };
            manifest.0.insert(name.to_owned(), entry);
        }
        Some(manifest)
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), KernelError> {
        let mut text = String::new();
        for (name, entry) in &self.0 {
            let Entry {
                mtime,
                size,
                executable,
                content,
            } = entry;
            let mode = if *executable { 'x' } else { '-' };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{mtime} {size} {mode} {content}\t{name}");
        }
        files::write_atomically(path, text.as_bytes(), files::READABLE)
            .map_err(KernelError::io("write", path))
    }
}

fn relative(root: &Path, path: &Path) -> Option<String> {
    let name = path.strip_prefix(root).ok()?.to_str()?;
    (!name.contains(['\n', '\t'])).then(|| name.to_owned())
}

/// What a build inside the tree leaves behind, and version control's own files. With the
/// former in place, kbuild refuses to build elsewhere.
fn is_artefact(root: &Path, entry: &DirEntry) -> bool {
    let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
    let name = entry.file_name().to_string_lossy();
    if entry.file_type().is_dir() {
        return name == ".git"
            || path == Path::new("include/config")
            || path == Path::new("include/generated")
            || (path.starts_with("arch") && path.ends_with("include/generated"));
    }
    let path = path.to_str();
    matches!(
        path,
        Some(".config" | ".config.old" | ".git" | "vmlinux" | "System.map")
    ) || [".o", ".a", ".ko", ".cmd", ".mod", ".order", ".symvers"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use staleline_support::progress::Quiet;

    use super::*;

    fn scan(root: &Path, memo: &Path) -> Manifest {
        Manifest::scan(root, None, memo, &Quiet).unwrap()
    }

    #[test]
    fn digest_follows_content_not_time() {
        let dir = tempfile::tempdir().unwrap();
        let (root, memo) = (dir.path().join("src"), dir.path().join("memo"));
        fs::create_dir_all(root.join("include/config")).unwrap();
        fs::write(root.join("a.c"), "one").unwrap();
        fs::write(root.join("a.o"), "object").unwrap();
        fs::write(root.join("include/config/auto.conf"), "built").unwrap();
        std::os::unix::fs::symlink("a.c", root.join("link.c")).unwrap();

        let first = scan(&root, &memo);
        assert_eq!(first.0.keys().collect::<Vec<_>>(), ["a.c", "link.c"]);
        assert_eq!(first.0["link.c"].link_target(), Some("a.c"));
        assert_eq!(Manifest::load(&memo).as_ref(), Some(&first));

        fs::write(root.join("a.c"), "one").unwrap();
        assert_eq!(scan(&root, &memo).digest(), first.digest());
        fs::write(root.join("a.c"), "two").unwrap();
        let second = scan(&root, &memo);
        assert_ne!(second.digest(), first.digest());
        fs::set_permissions(root.join("a.c"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(scan(&root, &memo).digest(), second.digest());
    }

    #[test]
    fn a_broken_memo_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let memo = dir.path().join("memo");
        fs::write(&memo, "garbage").unwrap();
        assert_eq!(Manifest::load(&memo), None);
    }
}
