// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The first errors in what compilers, linkers and modpost say: what comes at the end of a log is most often
//! make's account of who gave up because of whom.

/// Errors that are kept.
const ERRORS: usize = 3;
/// Lines of each, with the source that compilers quote below.
const LINES: usize = 6;

/// The first errors, each with the lines that belong to it.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    lines: Vec<String>,
    errors: usize,
    /// Lines that may yet belong to the last one.
    room: usize,
}

impl Complaints {
    /// The next line of the log.
    pub(super) fn line(&mut self, line: &str) {
        // Excerpts are indented, and so are kbuild's own lines, which name a step: `  CC [M]  x.o`.
        let quotes = line.starts_with("   ") || line.trim_start().starts_with('|');
        if is_error(line) {
            self.errors += 1;
            self.room = if self.errors <= ERRORS { LINES } else { 0 };
        } else if !quotes {
            self.room = 0;
        }
        if self.room > 0 {
            self.room -= 1;
            self.lines.push(line.to_owned());
        }
    }

    /// They are of something else.
    pub(super) fn clear(&mut self) {
        *self = Complaints::default();
    }

    /// All of them, a line each, indented, if there are any.
    pub(super) fn text(&self) -> Option<String> {
        let mut text: String = self.lines.iter().map(|l| format!("  {l}\n")).collect();
        if self.errors > ERRORS {
            text += &format!("  ... and {} more errors\n", self.errors - ERRORS);
        }
        (!text.is_empty()).then_some(text)
    }
}

/// Whether a line is an error: `x.c:3:5: error: ...` or `fatal error: ...` of compilers, `ld: error: ...`,
/// `ERROR: modpost: ...`, `x.o: undefined reference to ...` of linkers.
fn is_error(line: &str) -> bool {
    line.contains(" error: ")
        || line.starts_with("error: ")
        || line.starts_with("ERROR: ")
        || line.contains(": undefined reference to ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(log: &str) -> Option<String> {
        let mut complaints = Complaints::default();
        log.lines().for_each(|line| complaints.line(line));
        complaints.text()
    }

    #[test]
    fn the_first_errors_come_with_their_excerpts() {
        let log = "  CC [M]  /m/x.o\n\
                   /m/x.c: In function 'f':\n\
                   /m/x.c:3:5: warning: unused variable 'a'\n    3 | int a;\n\
                   /m/x.c:4:9: error: expected ';' before 'int'\n    4 | int b\n      |      ^\n      |      ;\n\
                   make[2]: *** [scripts/Makefile.build:229: /m/x.o] Error 1\n\
                   make: *** [Makefile:224: __sub-make] Error 2\n";
        let first = "  /m/x.c:4:9: error: expected ';' before 'int'\n      4 | int b\n        |      ^\n        |      ;\n";
        assert_eq!(told(log).unwrap(), first);
        let modpost =
            "  MODPOST /m/Module.symvers\nERROR: modpost: \"nothing\" [/m/x.ko] undefined!\n";
        assert!(told(modpost).unwrap().contains("\"nothing\""));
        assert_eq!(
            told("  CC x.o\nmake: *** No rule to make target 'y'.\n"),
            None
        );
    }

    #[test]
    fn there_is_an_end_to_them() {
        let log: String = (0..99)
            .map(|n| format!("x.c:{n}: error: no\n{}", "   |\n".repeat(50)))
            .collect();
        let told = told(&log).unwrap();
        assert_eq!(told.lines().count(), ERRORS * LINES + 1);
        assert!(told.ends_with("... and 96 more errors\n"), "{told}");
    }
}
