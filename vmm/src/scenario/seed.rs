// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Seeds: all of u64, though TOML's integers end at 2^63 - 1. A larger one is written as a string.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A seed of data patterns and of everything random in the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.0) {
            Ok(seed) => serializer.serialize_i64(seed),
            Err(_) => serializer.serialize_str(&self.0.to_string()),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Integer(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || {
            let what = format!("a seed is a number from 0 to {}", u64::MAX);
            serde::de::Error::custom(what)
        };
        match Form::deserialize(deserializer) {
            Ok(Form::Integer(seed)) => Ok(Seed(seed)),
            Ok(Form::Text(text)) => text.parse().map(Seed).map_err(|_| wrong()),
            Err(_) => Err(wrong()),
        }
    }
}

/// For a field that is a plain number, `#[serde(with = "seed::number")]`.
pub mod number {
    use super::{Deserialize, Deserializer, Seed, Serialize, Serializer};

    /// As [`Seed`].
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        Seed(*seed).serialize(serializer)
    }

    /// As [`Seed`].
    ///
    /// # Errors
    /// If it is no seed.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Seed::deserialize(deserializer).map(|seed| seed.0)
    }
}
