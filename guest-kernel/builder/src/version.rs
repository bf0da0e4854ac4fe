// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Versions of the kernel, and for which of them something is.

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
    pub(super) fn is_any(self) -> bool {
        self == Self::default()
    }

    pub(super) fn has(self, version: Version) -> bool {
        self.since.is_none_or(|since| version >= since)
            && self.before.is_none_or(|before| version < before)
    }
}

pub(super) fn parse(text: &str) -> Option<Version> {
    let (version, level) = text.split_once('.')?;
    Some((version.parse().ok()?, level.parse().ok()?))
}

/// What a configuration has only for kernels since a version: `<name>.since-<version>.config`.
pub(super) const SINCE: &str = ".since-";

/// Whether the file of a configuration, without `.config`, is such an addition.
pub(super) fn is_addition(stem: &str) -> bool {
    stem.contains(SINCE)
}

/// `VERSION.PATCHLEVEL` of the top Makefile.
pub(super) fn of_makefile(text: &str) -> Option<String> {
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
