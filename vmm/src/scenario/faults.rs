// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `faults.inject`: a list of faults, or one text with commas between them.

use serde::{Deserialize, Deserializer};
use staleline_devices::faults::{Fault, MAX_FAULTS};

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of faults, such as [\"drop@17\"]"
)]
enum Form {
    List(Vec<String>),
    Text(String),
}

/// Reads either.
///
/// # Errors
/// If one is no fault, stands there twice, or there are more than [`MAX_FAULTS`].
pub fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Fault>, D::Error> {
    use serde::de::Error as _;
    let list = match Form::deserialize(from)? {
        Form::List(list) => list,
        Form::Text(text) => text.split(',').map(|one| one.trim().to_owned()).collect(),
    };
    if list.len() > MAX_FAULTS {
        let n = list.len();
        return Err(D::Error::custom(format!(
            "{n} faults, at most {MAX_FAULTS} are possible"
        )));
    }
    let mut faults: Vec<Fault> = Vec::new();
    for text in &list {
        let fault = text.parse().map_err(D::Error::custom)?;
        if faults.contains(&fault) {
            return Err(D::Error::custom(format!("{fault} stands there twice")));
        }
        faults.push(fault);
    }
    Ok(faults)
}
