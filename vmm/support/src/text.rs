// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Text for people.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

/// An error with its whole chain of causes on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// Paths, with commas between them.
pub fn paths(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(", ")
}

/// What comes from a guest, without control characters: it shall not write escape sequences to a
/// user's terminal.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Characters that have a terminal show what follows in another order.
const REORDERS: [char; 12] = [
    '\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}',
    '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
];

/// Text that quotes what the user gave: control characters are shown as escapes, but for the ends of lines.
pub fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => "\n".to_owned(),
        '\t' => " ".to_owned(),
        c if c.is_control() || REORDERS.contains(&c) => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// At most about `most` bytes of a text: its beginning and its end.
pub fn elide(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let head = (0..=most * 2 / 3).rev().find(|n| text.is_char_boundary(*n));
    let tail = (text.len() - most / 3..).find(|n| text.is_char_boundary(*n));
    let (head, tail) = (head.unwrap_or(0), tail.unwrap_or(text.len()));
    let (head, tail, left) = (&text[..head], &text[tail..], tail - head);
    format!("{head} [... {left} bytes ...] {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_gave_moves_no_cursor_either() {
        assert_eq!(
            visible("a\u{1b}[31m\tb\nc\u{9b}é"),
            "a\\u{1b}[31m b\nc\\u{9b}é"
        );
    }

    #[test]
    fn nothing_is_shown_in_another_order() {
        assert_eq!(visible("\u{202e}1"), "\\u{202e}1");
    }

    #[test]
    fn long_text_keeps_its_ends() {
        assert_eq!(elide("short", 5), "short");
        for most in 6..40 {
            let text = format!("begin{}end", "é".repeat(100));
            let told = elide(&text, most);
            assert!(told.len() <= most + 24, "{told}");
        }
        let told = elide(&format!("begin{}end", "é".repeat(100)), 30);
        assert!(
            told.starts_with("begin") && told.ends_with("éend"),
            "{told}"
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn all_causes_are_told() {
        let inner = Link("inner", None);
        let outer = Link(
            "outer",
            Some(Box::new(Link("middle", Some(Box::new(inner))))),
        );
        assert_eq!(chain(&outer), "outer: middle: inner");
    }

    #[test]
    fn a_guest_moves_no_cursor() {
        assert_eq!(plain("a\u{1b}[31mb\r\nc\td\u{9b}é"), "a[31mbcdé");
    }
}
