// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Times as they are written down.

use std::time::Duration;

/// In whole microseconds.
#[must_use]
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
