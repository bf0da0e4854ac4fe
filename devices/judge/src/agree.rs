// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The domain's judgement of a program under all policies, compared with the explorer's: they agree
//! if findings are on exactly the bytes on which something is wrong, and each asks for an operation that
//! helps.

use staleline_devices::coherency::Policy;
use staleline_litmus::explore::Answer;
use staleline_litmus::program::{self, Program, View};

use crate::agreement::Agreement;
use crate::domain::{Error, Found, findings};
use crate::known::{Difference, Known};
use crate::{operation, ownership};

/// Seed of the replacement policies.
const SEED: u64 = 1;

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
/// other question of it, all write policies. `answer`: the explorer's.
///
/// # Errors
/// [`Error`] if the domain cannot judge it.
pub fn judge(program: &Program, answer: &Answer) -> Result<Judgement, Error> {
    let mut judgement = Judgement {
        found: Vec::new(),
        runs: 0,
        agreement: Agreement::Agrees,
    };
    // What has been compared before needs no second time.
    let mut compared: Vec<(program::Policy, Vec<Found>)> = Vec::new();
    for program in under_write_policies(program) {
        for replacement in Policy::ALL {
            let found = findings(&program, replacement, SEED)?;
            judgement.runs += 1;
            let this = (program.policy, found);
            if compared.contains(&this) {
                continue;
            }
            let known = Known::new(&program, answer, replacement, SEED);
            let agreement = on_bytes(&known, &program, answer, &this.1)?;
            let operations = operation::agreement(&known, &program, answer, &this.1)?;
            judgement.agreement = judgement.agreement.and(agreement).and(operations);
            for f in &this.1 {
                if !judgement.found.contains(f) {
                    judgement.found.push(*f);
                }
            }
            compared.push(this);
        }
    }
    Ok(judgement)
}

/// Whether findings are on the bytes on which something is wrong.
///
/// # Errors
/// [`Error`] if the domain cannot judge another order of the program.
pub fn on_bytes(
    known: &Known<'_>,
    program: &Program,
    answer: &Answer,
    found: &[Found],
) -> Result<Agreement, Error> {
    if let Some(how) = ownership::difference(program, found) {
        return Ok(Agreement::Differs(how));
    }
    let Some(difference) = Difference::of(program, answer, found) else {
        return Ok(Agreement::Agrees);
    };
    Ok(match known.classes(found, difference)? {
        Some(classes) if classes.is_empty() => Agreement::Agrees,
        Some(classes) => Agreement::Known(classes),
        None => Agreement::Differs(difference.describe(program)),
    })
}
