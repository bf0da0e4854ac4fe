// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What must hold in every run, whatever its settings.

use staleline_results::{RunResult, Verdict};

use crate::minimise::outcome::{Keep, Outcome};

/// What does not hold, in words that are the same wherever the reason is; none if all does. Of kernels that are
/// `right`, there is to be no finding at all.
pub fn trouble(result: &RunResult, right: bool) -> Option<String> {
    let outcome = || Outcome::of(result, Keep::Diagnosis).text();
    if result.verdict == Verdict::InfraError {
        return Some(outcome());
    }
    if result.data.corrupt_ends().next().is_some() && !result.has_errors() {
        return Some(format!("miss: {}", outcome()));
    }
    let complains = result.guest.complaints().next().is_some();
    (complains || right && result.verdict == Verdict::Fail).then(outcome)
}
