// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Names of the settings' values, taken from their serialised form: the only truth about them.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The name of a value that serialises to a string; empty for any other.
pub fn name<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// The value of that name.
pub fn parse<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

/// The names of all values, for messages: `a, b, c`.
pub fn list<T: Serialize>(values: &[T]) -> String {
    values.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The candidate most like `wrong`, if one is near enough to be what was meant.
pub fn did_you_mean<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // What begins alike and is much longer is no slip of the fingers.
    let near = |c: &&str| c.len() <= wrong.len().saturating_mul(3);
    candidates
        .into_iter()
        .filter(near)
        .map(|c| (strsim::jaro_winkler(wrong, c), c))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

/// The question whether that was meant, before what else helps: empty, or with a space at its end.
pub fn suggestion<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match did_you_mean(wrong, candidates) {
        Some(near) => format!("did you mean `{near}`? "),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use staleline_protocol::plan::Exporter;

    use super::*;
    use crate::board::settings::CachePolicy;

    #[test]
    fn names_come_back() {
        for exporter in Exporter::ALL {
            assert_eq!(name(&exporter), exporter.name());
            assert_eq!(parse::<Exporter>(exporter.name()), Some(exporter));
        }
        assert_eq!(list(&CachePolicy::ALL), "zynqmp, lazy, eager, random");
        assert_eq!(parse::<CachePolicy>("lasy"), None);
    }

    #[test]
    fn suggestions_are_near() {
        let known = ["iio-capture", "iio-playback", "boot"];
        assert_eq!(did_you_mean("iio-captrue", known), Some("iio-capture"));
        assert_eq!(did_you_mean("zzz", known), None);
        let long = ["nonsnooping-writer-snooping-reader"];
        assert_eq!(did_you_mean("nope", long), None);
    }
}
