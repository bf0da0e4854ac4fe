// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is known of a run with faults beside how it is judged: what was found, in the words of diagnoses, and
//! whether anybody but the sanitizer would know of it.

use serde::{Deserialize, Serialize};
use staleline_results::{HazardKind, RunResult};

use crate::result::verdict;

/// What findings are grouped by: in runs of a campaign, places have no names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The rule.
    pub kind: String,
    /// What is missing, in words.
    pub missing: String,
}

/// What else there is to know of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The causes of what was found, each once.
    pub diagnoses: Vec<Diagnosis>,
    /// Whether the guest (its kernel, drivers, programs), a device or the host at the other end of the bus tells
    /// of an error, or the run came to no end or to less than all data. That bytes were wrong is not such: they
    /// are compared with what was sent, which is known in a test alone.
    pub told: bool,
}

impl Heard {
    /// Of a run.
    pub fn of(result: &RunResult) -> Self {
        let causes = result.causes().filter_map(|cause| {
            let diagnostic = result.diagnostics.get(cause)?;
            let shown = result.hazards.get(diagnostic.shown)?;
            Some(Diagnosis {
                kind: HazardKind::name(diagnostic.kind).to_owned(),
                missing: shown.missing.clone(),
            })
        });
        let mut diagnoses: Vec<Diagnosis> = causes.collect();
        diagnoses.sort();
        diagnoses.dedup();
        Heard {
            diagnoses,
            told: is_told(result),
        }
    }
}

/// Whether anybody else tells of an error: see [`Heard::told`].
pub(super) fn is_told(result: &RunResult) -> bool {
    if result.guest.complaints().next().is_some() {
        return true;
    }
    let of_ours = verdict::evidence(result);
    let never = || result.injected.iter().filter(|one| one.at.is_none());
    result.reasons.iter().any(|why| {
        let of_fault = never().any(|one| why.starts_with(&one.fault));
        !of_fault && !of_ours.contains(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineKind;
    use crate::run::fake::{FakeBackend, stale_read};
    use crate::spec::RunSpec;
    use staleline_results::Injected;

    #[test]
    fn what_the_sanitizer_and_the_comparison_say_is_not_told() {
        let spec = RunSpec::resolve("iio-capture", "base", EngineKind::default(), &[]).unwrap();
        let backend = FakeBackend::new(|_, execution, text| {
            let domain = &mut execution.report.as_mut().unwrap().domain;
            domain.hazards.push(stale_read(1, true));
            *text = text.replace("\"corrupt\":0", "\"corrupt\":64");
        });
        let mut result = backend.run(&spec);
        assert!(result.reasons.len() > 1, "{:?}", result.reasons);
        let heard = Heard::of(&result);
        assert!(!heard.told, "{:?}", result.reasons);
        assert_eq!(heard.diagnoses.len(), 1);
        assert_eq!(heard.diagnoses[0].kind, "missing-invalidate");
        assert!(!heard.diagnoses[0].missing.is_empty());
        // Nor that a second fault never took place.
        result.injected = vec![Injected {
            fault: "drop@9".into(),
            at: None,
        }];
        let never = "drop@9 did not happen: the run never came to it";
        result.reasons.push(never.into());
        assert!(!Heard::of(&result).told);
        result.reasons.push("usb: a transfer was cut short".into());
        assert!(Heard::of(&result).told);
    }
}
