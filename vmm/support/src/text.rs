// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Text for people.

use std::error::Error;
use std::fmt::Write as _;

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

/// What comes from a guest, without control characters: it shall not write escape sequences to a
/// user's terminal.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
