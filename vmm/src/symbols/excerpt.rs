// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Lines of the user's own sources, beside the places that name them.
//!
//! Only what is still what was compiled: a file that was written after the binary says nothing about it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

/// Most bytes of a source file that is looked into: 4 MiB.
const MAX_BYTES: u64 = 4 << 20;

/// Most characters of a line.
const MAX_CHARS: usize = 100;

/// The sources of one binary.
pub struct Excerpts {
    /// Where relative names start.
    top: Option<PathBuf>,
    built: Option<SystemTime>,
    files: RefCell<HashMap<PathBuf, Option<Rc<str>>>>,
}

impl Excerpts {
    /// Those of `binary`; names that are relative start at `top`.
    pub fn new(binary: &Path, top: Option<&Path>) -> Self {
        let built = fs::metadata(binary).and_then(|m| m.modified());
        Excerpts {
            top: top.map(Path::to_owned),
            built: built.ok(),
            files: RefCell::default(),
        }
    }

    /// What stands in a line, from 1 on, without the white space around it; none if it cannot be told, or
    /// is empty.
    pub fn line(&self, file: &str, line: u32) -> Option<String> {
        let path = Path::new(file);
        let path = match (path.is_absolute(), &self.top) {
            (true, _) => path.to_owned(),
            (false, Some(top)) => top.join(path),
            (false, None) => return None,
        };
        let mut files = self.files.borrow_mut();
        let text = files.entry(path).or_insert_with_key(|path| self.read(path));
        let index = usize::try_from(line.checked_sub(1)?).ok()?;
        let line = text.as_ref()?.lines().nth(index)?;
        let plain = line.chars().map(|c| if c.is_control() { ' ' } else { c });
        let line: String = plain.collect();
        let line = line.trim();
        let mut shown: String = line.chars().take(MAX_CHARS).collect();
        if shown.len() < line.len() {
            shown.push_str(" ...");
        }
        (!shown.is_empty()).then_some(shown)
    }

    fn read(&self, path: &Path) -> Option<Rc<str>> {
        let metadata = fs::metadata(path).ok()?;
        // Nothing that would have to be waited for.
        if !metadata.is_file() || metadata.modified().ok()? > self.built? {
            return None;
        }
        let mut bytes = Vec::new();
        let file = File::open(path).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_was_compiled_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (source, binary) = (dir.path().join("a.c"), dir.path().join("a"));
        let long = "x".repeat(200);
        fs::write(&source, format!("int a;\n\n\tb\u{1b}[1m;\n{long}")).unwrap();
        fs::write(&binary, "").unwrap();
        let name = source.to_str().unwrap();
        let excerpts = Excerpts::new(&binary, None);
        assert_eq!(excerpts.line(name, 1).as_deref(), Some("int a;"));
        assert_eq!(excerpts.line(name, 3).as_deref(), Some("b [1m;"));
        let line = excerpts.line(name, 4).unwrap();
        assert!(line.len() == MAX_CHARS + 4 && line.ends_with(" ..."));
        for nothing in [0, 2, 5, u32::MAX] {
            assert_eq!(excerpts.line(name, nothing), None);
        }
        assert_eq!(excerpts.line("a.c", 1), None);
        let of_tree = Excerpts::new(&binary, Some(dir.path()));
        assert_eq!(of_tree.line("a.c", 1).as_deref(), Some("int a;"));
        assert_eq!(of_tree.line("/dev/zero", 1), None);

        let later = SystemTime::now() + Duration::from_secs(9);
        File::options()
            .write(true)
            .open(&source)
            .and_then(|file| file.set_modified(later))
            .unwrap();
        assert_eq!(Excerpts::new(&binary, None).line(name, 1), None);
    }
}
