// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How wide text for people is.

/// Where the text after a label starts.
pub(super) const COLUMN: usize = 12;

/// Columns of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    width: usize,
}

impl Default for Layout {
    /// For files and pipes.
    fn default() -> Self {
        Layout { width: 80 }
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
        }
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
    }
}
