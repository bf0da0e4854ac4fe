// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The domain's judgement of a program under all policies, compared with what is due.

use staleline_devices::coherency::Policy;
use staleline_litmus::bounds::{Bounds, Difference};
use staleline_litmus::explore::Answer;
use staleline_litmus::program::{self, Granules, Program, View};

use crate::domain::{Error, Found, findings};
use crate::known;

/// Seed of the replacement policies.
const SEED: u64 = 1;

/// Whether domain and explorer agree on a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// Under all policies.
    Agrees,
    /// They differ as it is known, for this reason.
    Known(&'static str),
    /// They differ: under which policy, and how.
    Differs(String),
}

/// The judgement of the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What it found, under any of the policies.
    pub found: Vec<Found>,
    /// How often it ran: once per pair of policies.
    pub runs: usize,
    /// Whether that is what is due.
    pub agreement: Agreement,
}

/// Bytes with findings.
pub fn bytes(found: &[Found]) -> Granules {
    found.iter().fold(Granules::NONE, |all, f| all.or(f.bytes))
}

/// The program under each policy for snooping writes that changes nothing of what is asked: its
/// own, and if nobody makes such a write, the other one.
fn under_write_policies(program: &Program) -> Vec<Program> {
    let snoops = |e: &program::Event| matches!(e.write(), Some((View::Snooping, _)));
    let mut all = vec![program.clone()];
    if !program.events.iter().any(snoops) {
        let mut other = program.clone();
        other.policy = match program.policy {
            program::Policy::WriteThrough => program::Policy::Allocate,
            program::Policy::Allocate => program::Policy::WriteThrough,
        };
        all.push(other);
    }
    all
}

/// Lets the domain judge a program under all replacement policies and, as far as that makes no
/// other question of it, all write policies. `case`: its name in the corpus, if it has one;
/// `answer`: the explorer's.
///
/// # Errors
/// [`Error`] if the domain cannot judge it.
pub fn judge(case: Option<&str>, program: &Program, answer: &Answer) -> Result<Judgement, Error> {
    let bounds = Bounds::of(program, answer);
    let mut judgement = Judgement {
        found: Vec::new(),
        runs: 0,
        agreement: Agreement::Agrees,
    };
    for program in under_write_policies(program) {
        for replacement in Policy::ALL {
            let found = findings(&program, replacement, SEED)?;
            judgement.runs += 1;
            let difference = bounds.difference(bytes(&found));
            let agreement = match difference {
                Some(d) => agreement(case, &program, replacement, d)?,
                None => Agreement::Agrees,
            };
            let worse = match judgement.agreement {
                Agreement::Agrees => agreement != Agreement::Agrees,
                Agreement::Known(_) => matches!(agreement, Agreement::Differs(_)),
                Agreement::Differs(_) => false,
            };
            if worse {
                judgement.agreement = agreement;
            }
            for f in found {
                if !judgement.found.contains(&f) {
                    judgement.found.push(f);
                }
            }
        }
    }
    Ok(judgement)
}

fn agreement(
    case: Option<&str>,
    program: &Program,
    replacement: Policy,
    difference: Difference,
) -> Result<Agreement, Error> {
    let listed = known::CORPUS.iter().find(|(name, _)| case == Some(*name));
    let reason = match listed {
        Some((_, reason)) => Some(*reason),
        None => known::class(program, replacement, SEED, difference)?,
    };
    Ok(match reason {
        Some(reason) => Agreement::Known(reason),
        None => Agreement::Differs(format!(
            "under policy `{}`: {}",
            replacement.name(),
            difference.describe(program)
        )),
    })
}
