// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Waiting for what comes by itself.

use std::time::Duration;

use crate::error::Error;

/// Calls `look` until it gives something, for up to `seconds` of guest time: drivers may probe
/// late.
///
/// # Errors
/// Those of `look`.
pub fn wait_for<T>(
    seconds: u64,
    mut look: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    const STEP: Duration = Duration::from_millis(20);
    let mut left = Duration::from_secs(seconds);
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        let Some(rest) = left.checked_sub(STEP) else {
            return Ok(None);
        };
        left = rest;
        std::thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends() {
        assert_eq!(wait_for(0, || Ok(None::<()>)).unwrap(), None);
        let mut calls = 0;
        let found = wait_for(1, || {
            calls += 1;
            Ok((calls == 3).then_some(calls))
        });
        assert_eq!(found.unwrap(), Some(3));
    }
}
