// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is tried: parts in halves, quarters and so on down to single ones (ddmin, Zeller and Hildebrandt 2002), then
//! each number down to its least, by halves and by one; again, until a whole round has found nothing.
//!
//! So what is found is 1-minimal: without any one part, or with any one number less by a step, it is another
//! outcome. That there is nothing smaller which is further away, nobody promises.

use super::parts::{self, Number, Part};
use crate::scenario::{Scenario, limits};

/// Why a search ended before it was through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// So many runs, or so much time, were allowed.
    Budget,
    /// The user wants no more.
    Interrupted,
    /// A run could not be carried out.
    Failed,
}

/// Says what comes of a scenario.
pub trait Judge {
    /// Whether it is the outcome that is wanted.
    ///
    /// # Errors
    /// If there is to be no further try.
    fn same(&mut self, case: &Scenario) -> Result<bool, Stopped>;

    /// There is a smaller one.
    fn found(&mut self, _case: &Scenario) {}
}

/// The smallest that was found, from one that has the outcome; and why it may not be the smallest there is.
pub fn smallest(from: &Scenario, judge: &mut dyn Judge) -> (Scenario, Result<(), Stopped>) {
    let mut search = Search {
        best: from.clone(),
        judge,
    };
    let ended = search.all();
    (search.best, ended)
}

struct Search<'a> {
    best: Scenario,
    judge: &'a mut dyn Judge,
}

impl Search<'_> {
    fn all(&mut self) -> Result<(), Stopped> {
        loop {
            let before = self.best.clone();
            self.parts()?;
            for number in Number::of(&self.best) {
                self.less(number)?;
            }
            if self.best == before {
                return Ok(());
            }
        }
    }

    /// Takes a smaller one if it comes to the same.
    fn take(&mut self, case: Scenario) -> Result<bool, Stopped> {
        if case == self.best || limits::check(&case, "").is_err() || !self.judge.same(&case)? {
            return Ok(false);
        }
        self.judge.found(&case);
        self.best = case;
        Ok(true)
    }

    fn parts(&mut self) -> Result<(), Stopped> {
        let from = self.best.clone();
        let mut kept = parts::of(&from);
        if kept.is_empty() || self.take(parts::only(&from, &[]))? {
            return Ok(());
        }
        let mut pieces = 2;
        loop {
            match self.fewer(&from, &kept, pieces)? {
                Some((fewer, next)) => (kept, pieces) = (fewer, next),
                None if pieces >= kept.len() => return Ok(()),
                None => pieces = (2 * pieces).min(kept.len()),
            }
        }
    }

    /// One of so many pieces alone, or all but one; and into how many pieces that is cut next.
    fn fewer(
        &mut self,
        from: &Scenario,
        kept: &[Part],
        pieces: usize,
    ) -> Result<Option<(Vec<Part>, usize)>, Stopped> {
        let size = kept.len().div_ceil(pieces.max(1)).max(1);
        for piece in kept.chunks(size) {
            if piece.len() < kept.len() && self.take(parts::only(from, piece))? {
                return Ok(Some((piece.to_vec(), 2)));
            }
        }
        for piece in kept.chunks(size) {
            let rest: Vec<Part> = kept
                .iter()
                .copied()
                .filter(|p| !piece.contains(p))
                .collect();
            if self.take(parts::only(from, &rest))? {
                return Ok(Some((rest, pieces.saturating_sub(1).max(2))));
            }
        }
        Ok(None)
    }

    fn less(&mut self, number: Number) -> Result<(), Stopped> {
        let Some(amount) = number.amount(&self.best) else {
            return Ok(());
        };
        if amount.value <= amount.least || self.take(number.set(&self.best, amount.least))? {
            return Ok(());
        }
        let mut value = amount.value;
        let mut steps = (value - amount.least) / amount.step / 2;
        steps = steps.max(1);
        loop {
            let smaller = value.saturating_sub(steps.saturating_mul(amount.step));
            if smaller > amount.least && self.take(number.set(&self.best, smaller))? {
                value = smaller;
                continue;
            }
            if steps == 1 {
                return Ok(());
            }
            steps /= 2;
        }
    }
}

/// All that are smaller by one part, or by one step of one number.
#[cfg(test)]
pub fn next_smaller(case: &Scenario) -> Vec<Scenario> {
    let all = parts::of(case);
    let without = all.iter().map(|part| {
        let rest: Vec<Part> = all.iter().copied().filter(|p| p != part).collect();
        parts::only(case, &rest)
    });
    let less = Number::of(case).into_iter().filter_map(|number| {
        let amount = number.amount(case)?;
        let value = amount.value.checked_sub(amount.step)?;
        (value >= amount.least).then(|| number.set(case, value))
    });
    let valid = |case: &Scenario| limits::check(case, "").is_ok();
    without.chain(less).filter(valid).collect()
}
