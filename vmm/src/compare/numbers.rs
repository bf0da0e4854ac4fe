// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Two numbers side by side.

use serde::{Serialize, Serializer};
use staleline_results::LineCost;

/// One that both sides have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Both {
    /// Of the one.
    pub a: u64,
    /// Of the other.
    pub b: u64,
}

impl Serialize for Both {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form {
            a: u64,
            b: u64,
            /// B by A; none if A is 0.
            ratio: Option<f64>,
        }
        let (a, b) = (self.a, self.b);
        let ratio = self.ratio();
        Form { a, b, ratio }.serialize(to)
    }
}

impl Both {
    /// Whether they are not the same.
    pub fn differs(&self) -> bool {
        self.a != self.b
    }

    fn ratio(&self) -> Option<f64> {
        (self.a != 0).then(|| self.b as f64 / self.a as f64)
    }

    /// B by A for people: `0.75`; `=` if they are the same.
    pub fn ratio_text(&self) -> String {
        match self.ratio() {
            _ if !self.differs() => "=".into(),
            None => "-".into(),
            Some(ratio) => format!("{ratio:.2}"),
        }
    }
}

/// Lines of maintenance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// See [`LineCost`].
    pub operations: Both,
    /// See [`LineCost`].
    pub lines: Both,
    /// See [`LineCost`].
    pub bytes: Both,
    /// See [`LineCost`].
    pub cleaned: Both,
    /// See [`LineCost`].
    pub invalidated: Both,
    /// See [`LineCost`].
    pub needed: Both,
    /// See [`LineCost`].
    pub redundant: Both,
    /// See [`LineCost`].
    pub untouched: Both,
}

impl Lines {
    /// Of both sides.
    pub fn of(a: &LineCost, b: &LineCost) -> Self {
        let both = |get: fn(&LineCost) -> u64| Both {
            a: get(a),
            b: get(b),
        };
        Lines {
            operations: both(|c| c.operations),
            lines: both(|c| c.lines),
            bytes: both(|c| c.bytes),
            cleaned: both(|c| c.cleaned),
            invalidated: both(|c| c.invalidated),
            needed: both(|c| c.needed),
            redundant: both(|c| c.redundant),
            untouched: both(|c| c.untouched),
        }
    }

    /// With names for people.
    pub fn named(&self) -> [(&'static str, Both); 8] {
        [
            ("operations", self.operations),
            ("lines", self.lines),
            ("bytes", self.bytes),
            ("lines cleaned", self.cleaned),
            ("lines invalidated", self.invalidated),
            ("lines needed", self.needed),
            ("lines redundant", self.redundant),
            ("lines never transferred", self.untouched),
        ]
    }

    /// Whether any differ.
    pub fn differ(&self) -> bool {
        self.named().iter().any(|(_, both)| both.differs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_second_by_the_first() {
        let text = |a, b| Both { a, b }.ratio_text();
        assert_eq!(text(4, 3), "0.75");
        assert_eq!(text(0, 3), "-");
        assert_eq!((text(0, 0), text(7, 7)), ("=".into(), "=".into()));
        let json = serde_json::to_string(&Both { a: 2, b: 1 }).unwrap();
        assert_eq!(json, r#"{"a":2,"b":1,"ratio":0.5}"#);
        let json = serde_json::to_string(&Both { a: 0, b: 1 }).unwrap();
        assert_eq!(json, r#"{"a":0,"b":1,"ratio":null}"#);
    }
}
