// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Many runs, several at a time.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::exit::Error;

/// Does `one` for 0, 1, and so on, `jobs` at a time: up to `count`, if there is one, as long as `goes_on`, and until
/// one fails. A thread for which `one` says so does no more.
///
/// # Errors
/// The first of `one`.
pub fn each(
    jobs: usize,
    count: Option<usize>,
    goes_on: impl Fn() -> bool + Sync,
    one: impl Fn(usize) -> Result<ControlFlow<()>, Error> + Sync,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::default();
    // A thread that panics is our bug and ends the program by the scope; the data is still whole.
    let lock = || failure.lock().unwrap_or_else(|e| e.into_inner());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, count.unwrap_or(usize::MAX).max(1)) {
            scope.spawn(|| {
                while lock().is_none() && goes_on() {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if count.is_some_and(|count| n >= count) {
                        break;
                    }
                    match one(n) {
                        Ok(ControlFlow::Continue(())) => {}
                        Ok(ControlFlow::Break(())) => break,
                        Err(e) => {
                            lock().get_or_insert(e);
                        }
                    }
                }
            });
        }
    });
    match lock().take() {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;
    use crate::exit;

    const GO_ON: Result<ControlFlow<()>, Error> = Ok(ControlFlow::Continue(()));

    #[test]
    fn each_is_done_once() {
        for jobs in [0, 1, 3, 100] {
            let done = Mutex::new(Vec::new());
            let one = |n| {
                done.lock().unwrap().push(n);
                GO_ON
            };
            each(jobs, Some(20), || true, one).unwrap();
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, (0..20).collect::<Vec<_>>(), "{jobs}");
        }
        each(2, Some(0), || true, |_| panic!("there is none")).unwrap();
    }

    #[test]
    fn it_ends_when_it_is_to_and_with_the_first_failure() {
        let done = AtomicUsize::new(0);
        let count = |_| {
            done.fetch_add(1, Ordering::Relaxed);
            GO_ON
        };
        each(1, None, || done.load(Ordering::Relaxed) < 7, count).unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 7);
        // Each of two threads leaves after its first.
        let done = AtomicUsize::new(0);
        let leave = |_| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(ControlFlow::Break(()))
        };
        each(2, None, || true, leave).unwrap();
        assert_eq!(done.into_inner(), 2);
        let fail = |n| match n {
            5 => Err(Error::Option {
                option: "five".into(),
                why: "it is".into(),
            }),
            _ => GO_ON,
        };
        let e = each(1, None, || true, fail).unwrap_err();
        assert_eq!(e.exit_code(), exit::USAGE, "{e}");
    }
}
