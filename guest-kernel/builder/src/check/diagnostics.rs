// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What compilers, Kconfig, kernel-doc and checkpatch.pl say, one line each, and what of it
//! is new.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

/// How bad a message is, in the words of the program that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Must not be.
    Error,
    /// Should not be.
    Warning,
    /// An opinion on style, which checkpatch.pl has with `--strict`.
    Check,
}

impl Level {
    /// Its word, as compilers write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Check => "check",
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnostic {
    /// What make was making, relative to the object directory; empty if it did not say.
    pub(super) object: String,
    /// Relative to the source tree.
    pub(super) file: String,
    /// From 1; none for a message about a whole file.
    pub(super) line: Option<u32>,
    pub(super) level: Level,
    pub(super) text: String,
}

impl Diagnostic {
    /// What stays the same when lines are inserted above.
    fn key(&self) -> (&str, &str, Level, &str) {
        (&self.object, &self.file, self.level, &self.text)
    }
}

/// Those of `now` that `before` does not have. Where the same is said more often than
/// before, the last ones count as new.
pub(super) fn beyond(now: &[Diagnostic], before: &[Diagnostic]) -> Vec<Diagnostic> {
    let mut known: HashMap<_, usize> = HashMap::new();
    for diagnostic in before {
        *known.entry(diagnostic.key()).or_default() += 1;
    }
    let mut new = Vec::new();
    for diagnostic in now {
        match known.get_mut(&diagnostic.key()) {
            Some(left) if *left > 0 => *left -= 1,
            _ => new.push(diagnostic.clone()),
        }
    }
    new
}

/// Finds the messages in what programs print.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Directories that messages are told without.
    prefixes: Vec<String>,
    object: String,
    pub(super) found: Vec<Diagnostic>,
}

impl Scanner {
    pub(super) fn new(directories: &[&Path]) -> Self {
        Self {
            prefixes: directories
                .iter()
                .map(|dir| format!("{}/", dir.display()))
                .collect(),
            object: String::new(),
            found: Vec::new(),
        }
    }

    pub(super) fn line(&mut self, line: &str) {
        if let Some(object) = made(line) {
            object.clone_into(&mut self.object);
            return;
        }
        let line = self
            .prefixes
            .iter()
            .fold(line.to_owned(), |line, prefix| line.replace(prefix, ""));
        self.found
            .extend(message(&line).map(|(file, line, level, text)| Diagnostic {
                object: self.object.clone(),
                file: file.to_owned(),
                line,
                level,
                text: text.to_owned(),
            }));
    }
}

/// What kbuild calls running sparse.
const CHECK: &str = "CHECK";

/// `  CC      drivers/dma-buf/dma-buf.o`, `  CC [M]  x.o`: what kbuild makes now.
fn made(line: &str) -> Option<&str> {
    let action = line.strip_prefix("  ")?;
    let mut words = action.split_ascii_whitespace();
    let verb = words.next()?;
    let tells = action.starts_with(verb) && verb.chars().all(|c| c.is_ascii_uppercase());
    // sparse looks at the source of what is being made.
    words.last().filter(|_| tells && verb != CHECK)
}

/// Level words of compilers and of Kconfig, which leaves out the space.
const LEVELS: [(&str, Level); 5] = [
    (": fatal error: ", Level::Error),
    (": error: ", Level::Error),
    (": warning: ", Level::Warning),
    (":error: ", Level::Error),
    (":warning: ", Level::Warning),
];

/// Takes `file:line:column: level: text` apart; line and column may be absent.
fn message(line: &str) -> Option<(&str, Option<u32>, Level, &str)> {
    // The level first, and the text behind the line number: kernel-doc since Linux 6.16.
    for (word, level) in [("Warning: ", Level::Warning), ("Error: ", Level::Error)] {
        if let Some((file, rest)) = line.strip_prefix(word).and_then(|l| l.split_once(':')) {
            let (number, text) = rest.split_once(' ')?;
            return Some((file, Some(number.parse().ok()?), level, text));
        }
    }
    let (at, word, level) = LEVELS
        .iter()
        .filter_map(|(word, level)| Some((line.find(word)?, word, *level)))
        .min_by_key(|(at, ..)| *at)?;
    let (place, text) = (&line[..at], &line[at + word.len()..]);
    // Source excerpts and notes are indented or quoted; a place is one word.
    if place.is_empty() || place.contains(char::is_whitespace) {
        return None;
    }
    let mut parts = place.split(':');
    let file = parts.next().unwrap_or(place);
    let number = parts.next().and_then(|number| number.parse().ok());
    let file = file.strip_prefix("./").unwrap_or(file);
    Some((file, number, level, text))
}

/// A line of `checkpatch.pl --terse --show-types`: line of the patch, level, type, text.
pub(super) fn of_checkpatch<'a>(
    line: &'a str,
    path: &str,
) -> Option<(u32, Level, &'a str, &'a str)> {
    let (number, rest) = line
        .strip_prefix(path)?
        .strip_prefix(':')?
        .split_once(": ")?;
    let (level, rest) = rest.split_once(':')?;
    let level = match level {
        "ERROR" => Level::Error,
        "WARNING" => Level::Warning,
        "CHECK" => Level::Check,
        _ => return None,
    };
    let (kind, text) = rest.split_once(": ")?;
    Some((number.parse().ok()?, level, kind, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Vec<Diagnostic> {
        let mut scanner = Scanner::new(&[Path::new("/w/src"), Path::new("/w/check-1")]);
        text.lines().for_each(|line| scanner.line(line));
        scanner.found
    }

    /// One of each form, and what stands around them.
    const OUTPUT: &str = "\
make[1]: Entering directory '/w/check-1'
drivers/a/Kconfig:12:warning: leading whitespace ignored
  CC      drivers/a/x.o
/w/src/drivers/a/x.c: In function 'f':
/w/src/drivers/a/x.c:7:9: warning: unused variable 'y' [-Wunused-variable]
    7 |     int y; /* drivers/a/x.c:1:1: error: quoted */
      |         ^
/w/src/drivers/a/x.c:3:1: note: declared here
In file included from /w/src/drivers/a/x.c:1:
./include/linux/a.h:9:5: error: expected ';'
/w/src/drivers/a/x.c:20: warning: Function parameter or struct member 'z' not described in 'f'
  CC [M]  drivers/a/m.o
/w/src/drivers/a/m.c:1:10: fatal error: none.h: No such file or directory
Warning: include/linux/a.h:4 struct member 'b' not described in 'a'
cc1: error: bad value 'x' for '-march='
make[3]: *** [/w/src/scripts/Makefile.build:234: drivers/a/m.o] Error 1
";

    #[test]
    fn every_form_is_read() {
        let found: Vec<String> = scan(OUTPUT)
            .into_iter()
            .map(|d| {
                let line = d.line.map_or(String::new(), |line| line.to_string());
                let level = d.level.name();
                format!("{}|{}|{line}|{level}|{}", d.object, d.file, d.text)
            })
            .collect();
        insta::assert_snapshot!(found.join("\n"), @r"
        |drivers/a/Kconfig|12|warning|leading whitespace ignored
        drivers/a/x.o|drivers/a/x.c|7|warning|unused variable 'y' [-Wunused-variable]
        drivers/a/x.o|include/linux/a.h|9|error|expected ';'
        drivers/a/x.o|drivers/a/x.c|20|warning|Function parameter or struct member 'z' not described in 'f'
        drivers/a/m.o|drivers/a/m.c|1|error|none.h: No such file or directory
        drivers/a/m.o|include/linux/a.h|4|warning|struct member 'b' not described in 'a'
        drivers/a/m.o|cc1||error|bad value 'x' for '-march='
        ");
    }

    #[test]
    fn what_was_there_before_is_not_new_wherever_it_has_moved() {
        let before = scan("  CC x.o\nx.c:7:1: warning: unused 'y'\nx.c:9:1: warning: unused 'y'\n");
        let now = scan(
            "  CC x.o\nx.c:17:1: warning: unused 'y'\nx.c:19:1: warning: unused 'y'\n\
             x.c:29:1: warning: unused 'y'\nx.c:30:1: error: unused 'y'\n  CC z.o\n\
             x.c:9:1: warning: unused 'y'\n",
        );
        let new: Vec<_> = beyond(&now, &before)
            .into_iter()
            .map(|d| (d.object, d.line))
            .collect();
        let wanted = [("x.o", 29), ("x.o", 30), ("z.o", 9)];
        assert_eq!(
            new,
            wanted.map(|(object, line)| (object.to_owned(), Some(line)))
        );
        assert_eq!(beyond(&before, &now), []);
    }

    #[test]
    fn checkpatch_is_read() {
        let line = "/tmp/x:y/1.patch:17: WARNING:LONG_LINE: line length of 164: exceeds 100";
        assert_eq!(
            of_checkpatch(line, "/tmp/x:y/1.patch"),
            Some((
                17,
                Level::Warning,
                "LONG_LINE",
                "line length of 164: exceeds 100"
            ))
        );
        let total = "total: 6 errors, 3 warnings, 0 checks, 11 lines checked";
        assert_eq!(of_checkpatch(total, "/tmp/x:y/1.patch"), None);
    }
}
