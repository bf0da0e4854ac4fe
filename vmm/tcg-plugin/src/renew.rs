// SPDX-License-Identifier: GPL-2.0-or-later
//! A check of saved states: every so often the machine is saved, and another one that is made from that
//! goes on in its place. If a state lacks anything, the run ends up as another one.

use std::num::NonZeroU64;
use std::os::unix::net::UnixStream;

use staleline_devices::state::Saved;
use staleline_machine::engine::abi::TcgConfig;
use staleline_machine::engine::guest::Guest;

use crate::core::Core;
use crate::qtest::Qtest;
use crate::sites::Sites;
use crate::start;

/// When to do it again, and how often it was done.
#[derive(Debug, Clone, Copy)]
pub struct Renewals {
    every: Option<NonZeroU64>,
    /// The machine's steps at which the next one is due.
    due: u64,
    /// How many there were.
    pub done: u64,
}

impl Renewals {
    /// One at each `every`th step of the machine's, or none.
    pub fn new(every: Option<NonZeroU64>) -> Self {
        Renewals {
            every,
            due: every.map_or(u64::MAX, NonZeroU64::get),
            done: 0,
        }
    }

    /// Whether one is due when the machine has made so many steps.
    #[inline(always)]
    pub fn is_due(&self, steps: u64) -> bool {
        steps >= self.due
    }

    /// One was done after so many steps.
    pub fn count(&mut self, steps: u64) {
        self.done += 1;
        if let Some(every) = self.every {
            self.due = (steps / every)
                .saturating_add(1)
                .saturating_mul(every.get());
        }
    }
}

/// Makes a machine of the same configuration, gives it the state of this one, and puts it in its place.
/// To be called between two things that the CPU does.
///
/// # Errors
/// If the state cannot be saved or restored, or if what was restored has another one; for the user.
pub fn renew<M: Guest>(
    core: &mut Core<M, UnixStream>,
    sites: &mut Sites,
    config: &TcgConfig,
) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| {
        format!("the machine cannot go on from its saved state: {why}")
    };
    let sealed = sealed(core, sites)?;
    let stream = core.qtest().peer().try_clone().map_err(|e| failed(&e))?;
    let qtest = Qtest::new(stream, core.qtest().gic().to_owned());
    let mut fresh = start::core(config, qtest)?;
    let saved = Saved::unseal(&sealed).map_err(|e| failed(&e))?;
    let mut known = fresh.restore(&saved).map_err(|e| failed(&e))?;
    drop(saved);
    let again = self::sealed(&fresh, &known)?;
    if again != sealed {
        let at = again
            .iter()
            .zip(&sealed)
            .skip(HEAD)
            .position(|(a, b)| a != b);
        let at = at.map_or(again.len().min(sealed.len()), |at| at + HEAD);
        return Err(failed(&format_args!(
            "saved again, it differs from byte {at} on; {} and {} bytes",
            sealed.len(),
            again.len()
        )));
    }
    core.machine.pass_witness(&mut fresh.machine);
    known.go_on_for(sites);
    *core = fresh;
    *sites = known;
    Ok(())
}

/// Bytes of a sealed state that its contents do not begin in.
const HEAD: usize = 16;

fn sealed<M: Guest>(core: &Core<M, UnixStream>, sites: &Sites) -> Result<Vec<u8>, String> {
    let saved = core.save(sites).and_then(|saved| saved.seal());
    saved.map_err(|e| format!("{e}: {:?}", std::error::Error::source(&e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_due_at_every_nth_step_or_just_after() {
        let mut renewals = Renewals::new(NonZeroU64::new(10));
        assert!(!renewals.is_due(9) && renewals.is_due(10));
        renewals.count(12);
        assert!(!renewals.is_due(19) && renewals.is_due(20));
        renewals.count(47);
        assert!(!renewals.is_due(49) && renewals.is_due(50));
        assert_eq!(renewals.done, 2);
        assert!(!Renewals::new(None).is_due(u64::MAX - 1));
    }
}
