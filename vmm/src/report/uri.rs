// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Files as references (RFC 3986). Code hosts know those of the user's from the top of a checkout.

use std::path::{Path, PathBuf};

/// What marks the top of a checkout: a directory, or a file where it is not the only one.
const GIT: &str = ".git";

/// The directory from which files are named.
#[derive(Debug, Clone)]
pub(super) struct Base(Option<PathBuf>);

impl Base {
    /// The top of the git checkout that we are in, or where we are.
    pub fn here() -> Self {
        Base(std::env::current_dir().ok().map(|here| top(&here)))
    }

    /// That of a file below it; none of another.
    pub fn relative(&self, path: &str) -> Option<String> {
        let base = self.0.as_ref()?;
        let path = Path::new(path);
        let below = |path: &Path| Some(path.strip_prefix(base).ok()?.display().to_string());
        // It may be named by way of a link.
        let found = below(path).or_else(|| below(&path.canonicalize().ok()?));
        found.filter(|found| !found.is_empty())
    }
}

fn top(here: &Path) -> PathBuf {
    let mut all = here.ancestors();
    let top = all.find(|dir| dir.join(GIT).exists());
    top.unwrap_or(here).to_owned()
}

/// What may not stand in a reference is written as `%XX`.
pub(super) fn of(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~+,=@".contains(&b);
    let scheme = if path.starts_with('/') { "file://" } else { "" };
    let path = path.bytes().map(|b| match plain(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    });
    scheme.to_owned() + &path.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_the_top_of_a_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (repo, linked) = (dir.join("repo"), dir.join("linked"));
        std::fs::create_dir_all(repo.join("drivers/own")).unwrap();
        std::fs::write(repo.join("drivers/own/a.c"), "").unwrap();
        std::os::unix::fs::symlink(&repo, &linked).unwrap();
        let here = repo.join("drivers");
        let named = |file: &Path| Base(Some(top(&here))).relative(file.to_str().unwrap());
        let file = repo.join("drivers/own/a.c");
        assert_eq!(
            named(&file).as_deref(),
            Some("own/a.c"),
            "there is no checkout"
        );
        std::fs::create_dir(repo.join(GIT)).unwrap();
        for file in [&file, &linked.join("drivers/own/a.c")] {
            assert_eq!(named(file).as_deref(), Some("drivers/own/a.c"));
        }
        assert_eq!(named(&repo), None);
        assert_eq!(named(&dir.join("repository/a.c")), None);
        assert_eq!(Base(None).relative("/a.c"), None);
    }

    #[test]
    fn references_have_no_spaces() {
        assert_eq!(of("drivers/iio/a b.c"), "drivers/iio/a%20b.c");
        assert_eq!(of("/home/me/x.c"), "file:///home/me/x.c");
    }
}
