// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Random programs, with how they are judged: what a seed stands for.

use staleline_devices::coherency::Policy;
use staleline_litmus::directed;
use staleline_litmus::explore::{Answer, explore_in};
use staleline_litmus::generate::{Shape, program};
use staleline_litmus::order::Parts;
use staleline_litmus::program::Program;

use crate::agree::on_bytes;
use crate::agreement::Agreement;
use crate::domain::{Error, Found};
use crate::known::Known;
use crate::operation::compare;

/// Of so many programs, one is asked for the missing operation too: that takes many explorations.
const OPERATIONS_EVERY: u64 = 16;

/// Of so many programs, in one masters also act that nobody has told to.
const UNPROMPTED_EVERY: u64 = 4;

/// States of one granule beyond which a random program is left out, and counted.
const MAX_STATES: usize = 1 << 12;

/// A random program, and how it is judged.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Of everything.
    pub seed: u64,
    /// The program.
    pub program: Program,
    /// What the domain runs under.
    pub replacement: Policy,
    /// It is asked for the missing operations too.
    pub operations: bool,
}

/// One of `of` choices for a seed, by `what`: choices of different things do not go together.
fn choice(seed: u64, what: u64, of: u64) -> u64 {
    // Fibonacci hashing; the upper bits are the mixed ones.
    let mixed = (seed ^ what << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % of
}

impl Sample {
    /// Of a seed.
    pub fn of(seed: u64) -> Self {
        let shape = Shape {
            events: 3 + choice(seed, 2, 10) as usize,
            lines: 2,
            cpus: 1,
            words: true,
            wild: choice(seed, 3, 2) == 0,
            unprompted: choice(seed, 5, UNPROMPTED_EVERY) == 0,
        };
        Sample {
            seed,
            program: match seed % 2 {
                0 => program(shape, seed),
                _ => directed::program(seed),
            },
            replacement: Policy::ALL[choice(seed, 1, 4) as usize],
            operations: choice(seed, 4, OPERATIONS_EVERY) == 0,
        }
    }

    /// What the explorer says; none: too large, or a poll never ends.
    pub fn explore(&self) -> Option<Answer> {
        let program = &self.program;
        let answer = explore_in(program, &Parts::of(program), MAX_STATES).ok()?;
        (answer.never == 0).then_some(answer)
    }

    /// What the domain finds.
    ///
    /// # Errors
    /// [`Error`] if it cannot judge the program.
    pub fn findings(&self) -> Result<Vec<Found>, Error> {
        crate::findings(&self.program, self.replacement, self.seed)
    }

    /// Whether these findings agree with that answer, and how many missing operations were compared.
    ///
    /// # Errors
    /// [`Error`] if the domain cannot judge another order of the program.
    pub fn agreement(&self, answer: &Answer, found: &[Found]) -> Result<(Agreement, usize), Error> {
        let known = Known::new(&self.program, answer, self.replacement, self.seed);
        let bytes = on_bytes(&known, &self.program, answer, found)?;
        if !self.operations {
            return Ok((bytes, 0));
        }
        let (operations, asked) = compare(&known, &self.program, answer, found)?;
        Ok((bytes.and(operations), asked))
    }
}
