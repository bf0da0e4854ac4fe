// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Mutants: patches that put a known kind of error into a kernel, to see that it is found.
//!
//! A directory below `guest-kernel/mutants` with patches and their `series`, like a stack's, and a
//! `mutant.toml` that says on top of which stack they go, where the error is known from, and what
//! should show it. The latter is for tests: what a run says comes from the run alone.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::KernelError;
use super::stack::{Patch, Stack};

/// Version of `mutant.toml`.
pub const SCHEMA: u32 = 1;

const ABOUT: &str = "mutant.toml";

/// A mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// The directory's name.
    pub name: String,
    /// What `mutant.toml` says.
    pub about: About,
    /// In order of application, on top of the stack's.
    pub patches: Vec<Patch>,
}

/// `mutant.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct About {
    /// Version of the format: [`SCHEMA`].
    pub schema: u32,
    /// The stack on top of which its patches go.
    pub stack: String,
    /// What is wrong with it, one sentence.
    pub mechanism: String,
    /// Where the error is known from.
    pub source: Vec<String>,
    /// Runs that should show it; each alone.
    pub show: Vec<Show>,
    /// Why nothing can show it yet; then its runs should pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survives: Option<String>,
}

/// A run that should show a mutant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Show {
    /// Name of a built-in scenario.
    pub scenario: String,
    /// Its settings, as on the command line.
    #[serde(default)]
    pub set: Vec<String>,
    /// Configurations without which the kernel does not show it.
    #[serde(default)]
    pub config: Vec<String>,
    /// The kind of finding due; `corrupt-data` for bytes that are wrong and no finding.
    pub finding: String,
    /// What its diagnostic must call missing, or a part of that; none for what misses nothing, as a
    /// report of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What its diagnostic must print of where the error is: a function, a file, what is advised
    /// for whom, or the end at which bytes were wrong. The same run without the mutant must print no
    /// such diagnostic.
    pub place: String,
    /// Causes that the run tells, if that is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causes: Option<Several>,
}

/// Why a run with one mutant tells several causes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Several {
    /// How many.
    pub count: usize,
    /// What each is, and why that is not the same.
    pub why: String,
}

impl Mutant {
    /// Reads the mutant `name` below `mutants`.
    pub(super) fn load(mutants: &Path, name: &str) -> Result<Self, KernelError> {
        let stack = Stack::load(mutants, name).map_err(|error| match error {
            KernelError::UnknownStack { name, dir, known } => {
                KernelError::UnknownMutant { name, dir, known }
            }
            KernelError::BadName { name, .. } => KernelError::BadName {
                what: "mutant",
                name,
            },
            error => error,
        })?;
        let path = mutants.join(name).join(ABOUT);
        let malformed = |line, reason| KernelError::Malformed {
            path: path.clone(),
            line,
            reason,
        };
        let text = fs::read_to_string(&path).map_err(KernelError::io("read", &path))?;
        let about: About = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count());
            malformed(line + 1, error.message().to_owned())
        })?;
        let wrong = if about.schema != SCHEMA {
            Some(format!("this program reads schema = {SCHEMA}"))
        } else if about.show.is_empty() {
            Some("without a run that shows it, nobody knows whether it does".to_owned())
        } else if stack.patches.is_empty() {
            Some("its series lists no patch".to_owned())
        } else {
            None
        };
        match wrong {
            Some(reason) => Err(malformed(1, reason)),
            None => Ok(Self {
                name: stack.name,
                about,
                patches: stack.patches,
            }),
        }
    }

    /// Reads all mutants below `mutants`, ordered by name.
    pub(super) fn load_all(mutants: &Path) -> Result<Vec<Self>, KernelError> {
        let stacks = Stack::load_all(mutants)?;
        stacks
            .iter()
            .map(|stack| Self::load(mutants, &stack.name))
            .collect()
    }

    /// Adds its patches to the stack that they are for.
    pub(super) fn apply_to(self, stack: &mut Stack) -> Result<(), KernelError> {
        if self.about.stack != stack.name {
            return Err(KernelError::OtherBase {
                mutant: self.name,
                stack: stack.name.clone(),
                base: self.about.stack,
            });
        }
        stack.patches.extend(self.patches);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use staleline_support::progress::Quiet;

    use super::super::tests::Fixture;
    use super::super::{ErrorKind, KernelRequest};
    use super::*;

    const PATCH: &str = "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n";
    const GOOD: &str = "schema = 1\nstack = \"base\"\nmechanism = \"m\"\nsource = [\"s\"]\n\
                        [[show]]\nscenario = \"iio-capture\"\nfinding = \"missing-clean\"\n\
                        place = \"f\"\n";

    fn write(about: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mutant = dir.path().join("m");
        fs::create_dir(&mutant).unwrap();
        fs::write(mutant.join("one.patch"), PATCH).unwrap();
        fs::write(mutant.join("series"), "one.patch\n").unwrap();
        fs::write(mutant.join(ABOUT), about).unwrap();
        dir
    }

    #[test]
    fn it_goes_on_top_of_its_stack_and_no_other() {
        let dir = write(GOOD);
        let mutant = Mutant::load(dir.path(), "m").unwrap();
        let all = Mutant::load_all(dir.path()).unwrap();
        assert_eq!(all.first(), Some(&mutant));
        assert_eq!(all.len(), 1);
        let mut stack = Stack {
            name: "base".into(),
            patches: Vec::new(),
        };
        mutant.clone().apply_to(&mut stack).unwrap();
        assert_eq!(stack.patches, mutant.patches);
        stack.name = "other".into();
        let error = mutant.apply_to(&mut stack).unwrap_err().to_string();
        assert!(error.contains("base~m"), "{error}");
    }

    #[test]
    fn its_kernel_is_the_stacks_with_one_more_patch() {
        const CHANGE: &str = "--- a/driver.c\n+++ b/driver.c\n@@ -1,2 +1,2 @@\n-int a;\n+int m;\n \
                              int patched;\n";
        let fixture = Fixture::new();
        let dir = fixture.path("guest-kernel/mutants/m");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("one.patch"), CHANGE).unwrap();
        fs::write(dir.join("series"), "one.patch\n").unwrap();
        fs::write(dir.join(ABOUT), GOOD.replace("\"base\"", "\"patched\"")).unwrap();

        let progress = Quiet;
        let build = |name| {
            let request = KernelRequest::named(name);
            assert_eq!(request.name(), name);
            fixture.builder.build(&request, &progress)
        };
        let stack = build("patched").unwrap();
        let mutant = build("patched~m").unwrap();
        assert_eq!(
            fs::read_to_string(&mutant.image).unwrap(),
            "int m;\nint patched;\n"
        );
        assert_eq!(mutant.version, "6.12.0-patched~m");
        assert_eq!(mutant.stack, ["0000.patch", "one.patch"]);
        // In the same tree, and the stack is as it was.
        assert_eq!(fixture.cached("src").len(), 1);
        assert_eq!(build("patched").unwrap(), stack);
        let error = build("base~m").unwrap_err();
        assert!(matches!(error, KernelError::OtherBase { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::User);
        assert_eq!(
            build("patched~m+lockdep").unwrap().name,
            "patched~m+lockdep"
        );
    }

    #[test]
    fn what_is_wrong_with_its_description_is_told_with_the_line() {
        for (about, wanted) in [
            (GOOD.replace("\"base\"", "7"), "mutant.toml:2: invalid type"),
            (GOOD.replace("schema = 1", "schema = 9"), "schema = 1"),
            (
                GOOD.replace("mechanism", "mecanism"),
                "mutant.toml:3: unknown field",
            ),
            (
                GOOD[..GOOD.find("[[").unwrap()].to_owned() + "show = []\n",
                "nobody knows",
            ),
        ] {
            let dir = write(&about);
            let error = Mutant::load(dir.path(), "m").unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let dir = write(GOOD);
        let error = Mutant::load(dir.path(), "n").unwrap_err().to_string();
        assert!(error.contains("there are: m"), "{error}");
    }
}
