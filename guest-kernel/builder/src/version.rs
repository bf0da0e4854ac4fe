// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Versions of kernel sources, and which of them a patch is for.

use std::fs;
use std::path::Path;

use super::cache::Cache;
use super::error::KernelError;
use super::source::Source;
use super::stack::Stack;
use super::tools::Tools;

/// Version and patch level: what a source calls `VERSION` and `PATCHLEVEL`.
pub(super) type Version = (u32, u32);

/// The versions that a patch is for; all of them unless its series says something else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versions {
    since: Option<Version>,
    before: Option<Version>,
}

impl Versions {
    /// From a comment behind a patch's name: `since 6.13` or `before 6.13`. Any other is just a comment.
    pub(super) fn parse(comment: &str) -> Self {
        let mut words = comment.split_whitespace();
        let (word, version, rest) = (words.next(), words.next(), words.next());
        let version = version.filter(|_| rest.is_none()).and_then(parse);
        match word {
            Some("since") => Self {
                since: version,
                before: None,
            },
            Some("before") => Self {
                since: None,
                before: version,
            },
            _ => Self::default(),
        }
    }

    /// Whether they are all.
    fn is_any(self) -> bool {
        self == Self::default()
    }

    fn has(self, version: Version) -> bool {
        self.since.is_none_or(|since| version >= since)
            && self.before.is_none_or(|before| version < before)
    }
}

fn parse(text: &str) -> Option<Version> {
    let (version, level) = text.split_once('.')?;
    Some((version.parse().ok()?, level.parse().ok()?))
}

impl Stack {
    /// The patches that are for a source. It is only looked at if that makes a difference.
    pub(super) fn retain_for(
        &mut self,
        source: &Source,
        cache: &Cache,
        tools: &Tools,
    ) -> Result<(), KernelError> {
        if self.patches.iter().all(|patch| patch.versions.is_any()) {
            return Ok(());
        }
        let version = of(source, cache, tools)?;
        self.patches.retain(|patch| patch.versions.has(version));
        Ok(())
    }
}

/// What a configuration has only for kernels since a version: `<name>.since-<version>.config`.
const SINCE: &str = ".since-";

/// Whether the file of a configuration, without `.config`, is such an addition.
pub(super) fn is_addition(stem: &str) -> bool {
    stem.contains(SINCE)
}

/// What the configuration `name` has besides for the versions up to that of `source`, which is only
/// looked at if there is anything.
pub(super) fn additions(
    dir: &Path,
    name: &str,
    source: &Source,
    cache: &Cache,
    tools: &Tools,
) -> Result<String, KernelError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(KernelError::io("read", dir))? {
        let file = entry.map_err(KernelError::io("read", dir))?;
        let since = file.file_name().to_str().and_then(|file| {
            let rest = file.strip_prefix(name)?.strip_prefix(SINCE)?;
            parse(rest.strip_suffix(".config")?)
        });
        files.extend(since.map(|since| (since, file.path())));
    }
    if files.is_empty() {
        return Ok(String::new());
    }
    files.sort();
    let version = of(source, cache, tools)?;
    let mut text = String::new();
    for (_, path) in files.iter().filter(|(since, _)| *since <= version) {
        text += &fs::read_to_string(path).map_err(KernelError::io("read", path))?;
        text.push('\n');
    }
    Ok(text)
}

/// The version of a source, by its Makefile.
fn of(source: &Source, cache: &Cache, tools: &Tools) -> Result<Version, KernelError> {
    let bad = || KernelError::BadSource {
        path: source.path().to_owned(),
        reason: "its Makefile does not say which version it is".to_owned(),
    };
    let text = match source {
        Source::Tree { path, .. } => {
            let path = path.join("Makefile");
            let text = fs::read_to_string(&path).map_err(KernelError::io("read", &path))?;
            of_makefile(&text).ok_or_else(bad)?
        }
        Source::Archive { path, .. } => cache.once("versions.json", path, || {
            let mut tar = tools.command("tar");
            tar.args(["--extract", "--to-stdout", "--occurrence=1", "--wildcards"])
                .args(["--no-wildcards-match-slash", "--file"])
                .arg(path)
                .arg("*/Makefile");
            let failed = |reason: String| KernelError::Program {
                program: "tar".to_owned(),
                reason,
            };
            let output = tar.output().map_err(|error| failed(error.to_string()))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(failed(said.trim().to_owned()));
            }
            of_makefile(&String::from_utf8_lossy(&output.stdout)).ok_or_else(bad)
        })?,
    };
    parse(&text).ok_or_else(bad)
}

/// `VERSION.PATCHLEVEL` of the top Makefile.
fn of_makefile(text: &str) -> Option<String> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(found, _)| found.trim_end() == name)?;
        value.trim().parse::<u32>().ok()
    };
    Some(format!("{}.{}", value("VERSION")?, value("PATCHLEVEL")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_may_say_which_versions_a_patch_is_for() {
        for (comment, old, new) in [
            ("since 6.13", false, true),
            ("before 6.13", true, false),
            ("why it is here", true, true),
            ("since then", true, true),
            ("since 6.13 it is needed", true, true),
            ("", true, true),
        ] {
            let versions = Versions::parse(comment);
            assert_eq!(versions.has((6, 12)), old, "{comment}");
            assert_eq!(versions.has((6, 13)), new, "{comment}");
            assert_eq!(versions.has((7, 3)), new, "{comment}");
        }
    }

    #[test]
    fn a_makefile_says_which_version_it_is() {
        let text =
            "# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nKERNELVERSION = $(VERSION)\n";
        assert_eq!(of_makefile(text).as_deref(), Some("7.3"));
        assert_eq!(of_makefile("VERSION = seven\nPATCHLEVEL = 3\n"), None);
        assert_eq!(of_makefile(""), None);
    }
}
