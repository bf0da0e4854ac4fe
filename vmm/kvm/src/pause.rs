// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest that stands still: its CPUs have come out of it, and wait until they are told to go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Where CPUs wait. `T` is what each says about itself when it comes.
#[derive(Debug)]
pub struct Pause<T> {
    wanted: AtomicBool,
    /// Nobody waits any more, whoever wants it.
    over: AtomicBool,
    arrived: Mutex<Vec<T>>,
    gone_on: Condvar,
}

impl<T> Default for Pause<T> {
    fn default() -> Self {
        Pause {
            wanted: AtomicBool::new(false),
            over: AtomicBool::new(false),
            arrived: Mutex::default(),
            gone_on: Condvar::new(),
        }
    }
}

impl<T> Pause<T> {
    /// All CPUs are to wait, as soon as they can.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Whether they are.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) && !self.over.load(Ordering::Acquire)
    }

    fn arrived(&self) -> MutexGuard<'_, Vec<T>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A CPU waits until it may go on, and says something about itself.
    pub fn wait(&self, about: T) {
        let mut arrived = self.arrived();
        arrived.push(about);
        while self.is_wanted() {
            arrived = self
                .gone_on
                .wait(arrived)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What they have said, once so many are there.
    pub fn all(&self, cpus: usize) -> Option<Vec<T>> {
        let mut arrived = self.arrived();
        (arrived.len() >= cpus).then(|| std::mem::take(&mut *arrived))
    }

    /// All go on.
    pub fn release(&self) {
        // With the lock, so that none comes to wait between a look and its sleep.
        let _arrived = self.arrived();
        self.wanted.store(false, Ordering::Release);
        self.gone_on.notify_all();
    }

    /// All go on, and none waits from now on: one CPU may have ended the guest while another asks for this.
    pub fn end(&self) {
        let _arrived = self.arrived();
        self.over.store(true, Ordering::Release);
        self.gone_on.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nobody_goes_on_before_all_are_there_and_released() {
        let pause = Pause::default();
        let went_on = AtomicBool::new(false);
        pause.want();
        thread::scope(|scope| {
            for n in 0..3 {
                let (pause, went_on) = (&pause, &went_on);
                scope.spawn(move || {
                    pause.wait(n);
                    went_on.store(true, Ordering::Release);
                });
            }
            let mut all = loop {
                if let Some(all) = pause.all(3) {
                    break all;
                }
                thread::yield_now();
            };
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2]);
            assert!(!went_on.load(Ordering::Acquire));
            pause.release();
        });
        assert!(went_on.into_inner());
        assert!(!pause.is_wanted());
    }

    #[test]
    fn nobody_waits_when_it_is_over_whoever_wants_that() {
        let pause = Pause::default();
        pause.want();
        thread::scope(|scope| {
            scope.spawn(|| pause.wait(()));
            pause.end();
        });
        pause.want();
        assert!(!pause.is_wanted());
        pause.wait(());
    }
}
