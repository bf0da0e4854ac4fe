// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A share of a matrix's cells, for one of several machines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use staleline_support::digest;

/// Shares at most.
const MOST: u32 = 10_000;

/// `hash:M/N`: of N shares, the Mth. Which cell is in which depends on its name alone, so that machines need
/// not agree on anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Partition {
    /// From 1.
    share: u32,
    of: u32,
}

impl Partition {
    /// Whether the cell of that name is in it.
    pub fn has(self, name: &str) -> bool {
        let digest = digest::bytes(name);
        // Sixteen hexadecimal digits are 64 bits.
        let number = u64::from_str_radix(digest::short(&digest), 16).unwrap_or(0);
        number % u64::from(self.of) == u64::from(self.share - 1)
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (share, of) = text.strip_prefix("hash:")?.split_once('/')?;
            let (share, of): (u32, u32) = (share.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&share).then_some(())?;
            (of <= MOST).then_some(Partition { share, of })
        };
        parse().ok_or_else(|| {
            format!(
                "`{text}` is no share: hash:M/N is the Mth of N, from hash:1/N on, N at most {MOST}"
            )
        })
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hash:{}/{}", self.share, self.of)
    }
}

impl TryFrom<String> for Partition {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> String {
        partition.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_in_one_share() {
        for of in [1, 2, 3, 7] {
            let shares: Vec<Partition> = (1..=of)
                .map(|share| format!("hash:{share}/{of}").parse().unwrap())
                .collect();
            let mut sizes = vec![0; shares.len()];
            for n in 0..700 {
                let name = format!("boot.base.s{n}");
                let takers: Vec<_> = shares.iter().map(|s| s.has(&name)).collect();
                assert_eq!(takers.iter().filter(|t| **t).count(), 1, "{name} of {of}");
                sizes[takers.iter().position(|t| *t).unwrap()] += 1;
            }
            assert!(sizes.iter().all(|size| *size > 700 / of / 2), "{sizes:?}");
        }
    }

    #[test]
    fn what_is_no_share_is_told() {
        for text in [
            "",
            "1/2",
            "hash:",
            "hash:0/2",
            "hash:3/2",
            "hash:1/0",
            "hash:1/10001",
            "hash:-1/2",
        ] {
            let e = text.parse::<Partition>().unwrap_err();
            assert!(e.contains("hash:1/N"), "{e}");
        }
        let share: Partition = "hash:2/3".parse().unwrap();
        assert_eq!(share.to_string(), "hash:2/3");
    }
}
