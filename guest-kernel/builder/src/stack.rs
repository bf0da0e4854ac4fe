// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Patch stacks: a directory with a `series` file that lists patches in order.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path};

use super::error::KernelError;
use super::version::Versions;

/// The stack without patches, and what a request asks for that names none.
pub const BASE_STACK: &str = "base";

/// The file that lists a stack's patches.
const SERIES: &str = "series";

/// Bytes of a stack's name.
const MAX_NAME: usize = 40;

/// An ordered set of patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The directory's name.
    pub name: String,
    /// In order of application.
    pub patches: Vec<Patch>,
}

/// One patch of a [`Stack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Its file name.
    pub name: String,
    /// Its content.
    pub text: String,
    /// The files it changes, creates or deletes, relative to the kernel's top directory.
    pub files: BTreeSet<String>,
    /// The versions of the kernel that it is for.
    pub versions: Versions,
}

impl Stack {
    /// Reads the stack `name` below `stacks`.
    pub(super) fn load(stacks: &Path, name: &str) -> Result<Self, KernelError> {
        check_name("stack", name)?;
        let dir = stacks.join(name);
        if !is_stack(&dir) {
            return Err(KernelError::UnknownStack {
                name: name.to_owned(),
                dir: stacks.to_owned(),
                known: names(stacks)?.join(", "),
            });
        }
        Self::read(&dir, name)
    }

    /// Reads the stack in `dir`, and calls it `name`.
    pub(super) fn read(dir: &Path, name: &str) -> Result<Self, KernelError> {
        check_name("stack", name)?;
        let path = dir.join(SERIES);
        let series = fs::read_to_string(&path).map_err(KernelError::io("read", &path))?;
        let mut patches: Vec<Patch> = Vec::new();
        for (index, entry, comment) in parse_series(&series) {
            let malformed = |reason| KernelError::Malformed {
                path: path.clone(),
                line: index,
                reason,
            };
            if !is_plain_file_name(entry) {
                return Err(malformed(format!(
                    "`{entry}` is not the name of a file beside it"
                )));
            }
            if patches.iter().any(|patch| patch.name == entry) {
                return Err(malformed(format!("`{entry}` is listed twice")));
            }
            let file = dir.join(entry);
            let text = fs::read_to_string(&file)
                .map_err(|error| malformed(format!("cannot read {entry}: {error}")))?;
            let files = touched_files(&text).map_err(|(line, reason)| KernelError::Malformed {
                path: file.clone(),
                line,
                reason,
            })?;
            patches.push(Patch {
                name: entry.to_owned(),
                text,
                files,
                versions: Versions::parse(comment),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            patches,
        })
    }

    /// Its first `count` patches.
    pub(super) fn first(&self, count: usize) -> Self {
        Self {
            name: self.name.clone(),
            patches: self.patches.iter().take(count).cloned().collect(),
        }
    }

    /// Reads all stacks below `stacks`, ordered by name.
    pub(super) fn load_all(stacks: &Path) -> Result<Vec<Self>, KernelError> {
        names(stacks)?
            .iter()
            .map(|name| Self::load(stacks, name))
            .collect()
    }
}

/// Whether the directory is a patch stack.
#[must_use]
pub fn is_stack(dir: &Path) -> bool {
    dir.join(SERIES).is_file()
}

/// What a stack in a directory of the user's own is called.
pub(super) fn name_of(dir: &Path) -> String {
    // `.` and `..` have a name, too.
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name = plain(&dir.file_name().unwrap_or_default().to_string_lossy());
    match name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()) {
        "" => "stack".to_owned(),
        name => name.to_owned(),
    }
}

/// A name with `-` for what cannot be in one.
pub(super) fn plain(name: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c,
        '_' | '.' => c,
        _ => '-',
    };
    name.chars().take(MAX_NAME).map(plain).collect()
}

/// Names become path components and part of the kernel's release (at most 64 bytes with
/// the version, `__NEW_UTS_LEN`).
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), KernelError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
    {
        Ok(())
    } else {
        Err(KernelError::BadName {
            what,
            name: name.to_owned(),
        })
    }
}

fn names(stacks: &Path) -> Result<Vec<String>, KernelError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(stacks).map_err(KernelError::io("read", stacks))? {
        let entry = entry.map_err(KernelError::io("read", stacks))?;
        if is_stack(&entry.path()) {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
}

/// The entries of a series file with their line numbers and comments. As in quilt, `#` starts a
/// comment at the start of a line or after white space.
fn parse_series(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let (entry, comment) = match line.trim_start().starts_with('#') {
            true => ("", line),
            false => line.split_once(" #").unwrap_or((line, "")),
        };
        let entry = entry.trim();
        (!entry.is_empty()).then_some((index + 1, entry, comment))
    })
}

fn is_plain_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(_)), None)
    )
}

/// The files named in the headers of a unified diff, which must be relative to `a/` and
/// `b/`. Lines inside hunks are skipped by count, so that a removed line that reads like
/// a header is none.
fn touched_files(patch: &str) -> Result<BTreeSet<String>, (usize, String)> {
    let mut files = BTreeSet::new();
    let mut hunks = 0usize;
    let mut left = (0u64, 0u64);
    for (index, line) in patch.lines().enumerate() {
        let at = index + 1;
        if left != (0, 0) {
            left = match line.as_bytes().first() {
                Some(b'-') => (left.0.wrapping_sub(1), left.1),
                Some(b'+') => (left.0, left.1.wrapping_sub(1)),
                Some(b' ') | None => (left.0.wrapping_sub(1), left.1.wrapping_sub(1)),
                Some(b'\\') => left,
                _ => return Err((at, "the hunk is shorter than its header says".to_owned())),
            };
            if left.0 == u64::MAX || left.1 == u64::MAX {
                return Err((at, "the hunk is longer than its header says".to_owned()));
            }
        } else if let Some(header) = line.strip_prefix("@@ ") {
            left = hunk_lengths(header)
                .ok_or_else(|| (at, "this hunk header cannot be read".to_owned()))?;
            hunks += 1;
        } else if let Some(name) = line.strip_prefix("--- ").or(line.strip_prefix("+++ ")) {
            // What follows `---` alone, in a mail, is the diffstat.
            if let Some(file) = header_file(name).map_err(|reason| (at, reason))? {
                files.insert(file);
            }
        } else if ["rename from ", "copy from ", "GIT binary patch"]
            .iter()
            .any(|unsupported| line.starts_with(unsupported))
        {
            return Err((
                at,
                "renames, copies and binary changes are not supported".to_owned(),
            ));
        }
    }
    if left != (0, 0) {
        return Err((
            patch.lines().count(),
            "the patch ends inside a hunk".to_owned(),
        ));
    }
    if hunks == 0 || files.is_empty() {
        return Err((1, "there is no unified diff in this file".to_owned()));
    }
    Ok(files)
}

/// `-12,3 +12,4 @@ …` gives (3, 4); a missing length is 1.
fn hunk_lengths(header: &str) -> Option<(u64, u64)> {
    let mut words = header.split(' ');
    let mut length = |sign| {
        let range = words.next()?.strip_prefix(sign)?;
        let length = range.split_once(',').map_or("1", |(_, length)| length);
        length
            .parse::<u64>()
            .ok()
            .filter(|length| *length < u64::MAX)
    };
    Some((length('-')?, length('+')?))
}

fn header_file(name: &str) -> Result<Option<String>, String> {
    let name = name.split('\t').next().unwrap_or(name).trim_end();
    if name == "/dev/null" {
        return Ok(None);
    }
    let file = name
        .strip_prefix("a/")
        .or(name.strip_prefix("b/"))
        .ok_or_else(|| format!("`{name}` does not start with a/ or b/ (patch level 1)"))?;
    if Path::new(file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        Ok(Some(file.to_owned()))
    } else {
        Err(format!("`{name}` leads out of the source tree"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "From: A\n\nSubject\n---\n x.c | 2 +-\n\n--- a/dir/x.c\n+++ b/dir/x.c\n\
                        @@ -1,3 +1,3 @@ int x\n context\n--- a/not-a-header\n+++ b/neither\n end\n\
                        --- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+int y;\n-- \n2.39\n";

    #[test]
    fn series_ignores_comments_and_blank_lines() {
        let text = "# head\n\n 0001-a.patch \n  # indented\n0002-b#c.patch # why\n";
        let entries: Vec<_> = parse_series(text).collect();
        assert_eq!(
            entries,
            [(3, "0001-a.patch", ""), (5, "0002-b#c.patch", " why")]
        );
    }

    #[test]
    fn touched_files_skip_what_is_inside_hunks() {
        let files = touched_files(DIFF).unwrap();
        assert_eq!(files.into_iter().collect::<Vec<_>>(), ["dir/x.c", "new.c"]);
    }

    #[test]
    fn hostile_or_broken_patches_are_refused() {
        for (patch, reason) in [
            (
                "--- a/../../etc/passwd\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
                "leads out",
            ),
            (
                "--- a//etc/passwd\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
                "leads out",
            ),
            ("--- x.c\n+++ y.c\n@@ -1 +1 @@\n-a\n+b\n", "patch level 1"),
            ("--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-a\n+b\n", "ends inside"),
            ("--- a/x\n+++ b/x\n@@ -1,1 +1,2 @@\n-a\n-b\n", "longer than"),
            ("--- a/x\n+++ b/x\n@@ nonsense\n", "cannot be read"),
            ("rename from x\nrename to y\n", "not supported"),
            ("just text\n", "no unified diff"),
        ] {
            let (_, message) = touched_files(patch).unwrap_err();
            assert!(message.contains(reason), "{patch:?} gave {message:?}");
        }
    }

    #[test]
    fn names_stay_path_components() {
        for good in ["base", "begin-end-access", "m7_map.unmap", "6.12"] {
            check_name("stack", good).unwrap();
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "/etc",
            "-x",
            "a b",
            "ä",
            &"x".repeat(41),
        ] {
            assert!(check_name("stack", bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn series_errors_name_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let stack = dir.path().join("s");
        fs::create_dir(&stack).unwrap();
        fs::write(stack.join("one.patch"), DIFF).unwrap();
        for (series, wanted) in [
            ("one.patch\n../x.patch\n", "series:2"),
            ("one.patch\nmissing.patch\n", "series:2"),
            ("one.patch\n\none.patch\n", "series:3"),
        ] {
            fs::write(stack.join("series"), series).unwrap();
            let error = Stack::load(dir.path(), "s").unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let error = Stack::load(dir.path(), "t").unwrap_err().to_string();
        assert!(error.contains("there are: s"), "{error}");
    }
}
