// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How wide text for people is.

use std::fmt::{self, Write as _};

use anstyle::{AnsiColor, Style};

/// Where the text after a label starts.
pub(super) const COLUMN: usize = 12;

pub(super) const LABEL: Style = AnsiColor::Cyan.on_default();

/// The line that users copy: it is not broken.
pub(super) const REPLAY: &str = "replay";

/// Columns of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    width: usize,
    /// Somebody is looking at it; else a program may be reading it line by line.
    terminal: bool,
}

impl Default for Layout {
    /// For files and pipes.
    fn default() -> Self {
        Layout {
            width: 80,
            terminal: false,
        }
    }
}

impl Layout {
    /// As wide as the terminal that standard output is, if it is one, but not wider than reads well.
    pub fn of_stdout() -> Self {
        let size = terminal_size::terminal_size_of(std::io::stdout());
        size.map_or(Layout::default(), |(columns, _)| {
            Layout::of_columns(columns.0)
        })
    }

    /// For so many columns.
    pub fn of_columns(columns: u16) -> Self {
        Layout {
            width: usize::from(columns).clamp(40, 100),
            terminal: true,
        }
    }

    /// Breaks each line of what is not laid out otherwise, on a terminal.
    pub fn folded(self, text: &str) -> String {
        if !self.terminal {
            return text.to_owned();
        }
        let options = textwrap::Options::new(self.width)
            .break_words(false)
            .subsequent_indent("  ")
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(text, options)
    }

    /// In columns.
    pub fn width(self) -> usize {
        self.width
    }

    /// Breaks text into lines that fit beside `indent` columns; words are left whole.
    pub fn wrapped(self, text: &str, indent: usize) -> String {
        let options = textwrap::Options::new(self.width - indent)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(text, options)
    }
}

/// Lines of a diagnostic below its headline.
pub(super) struct Body {
    pub text: String,
    pub layout: Layout,
}

impl Body {
    pub fn new(headline: String, layout: Layout) -> Self {
        Body {
            text: headline,
            layout,
        }
    }

    /// A line with a label, and what it takes below it.
    pub fn line(&mut self, label: &str, text: impl fmt::Display) {
        let mut text = text.to_string();
        if label != REPLAY {
            text = self.layout.wrapped(&text, COLUMN);
        }
        let continued = format!("\n{:COLUMN$}", "");
        let text = text.replace('\n', &continued);
        // Writing to a string cannot fail.
        let pad = COLUMN.saturating_sub(3 + label.len());
        let _ = writeln!(self.text, "  {LABEL}{label}{LABEL:#} {:pad$}{text}", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_narrow_terminals_and_does_not_sprawl_on_wide_ones() {
        assert_eq!(Layout::of_columns(60).width(), 60);
        assert_eq!(Layout::of_columns(0).width(), 40);
        assert_eq!(Layout::of_columns(300).width(), 100);
        let text = Layout::of_columns(60).wrapped(&"word ".repeat(40), COLUMN);
        assert!(text.lines().all(|l| l.len() <= 48), "{text}");
        let line = "word ".repeat(40);
        assert_eq!(Layout::default().folded(&line), line);
        let folded = Layout::of_columns(60).folded(&line);
        assert!(folded.lines().all(|l| l.len() <= 60), "{folded}");
    }
}
