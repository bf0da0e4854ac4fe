// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Searches without a guest: that what is found is smallest, and what is done with a machine that is none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use staleline_devices::faults::{Fault, Injected, OperationFault};
use staleline_devices::usb::plan::{Action, Incident};
use staleline_support::digest;
use staleline_support::progress::{Progress, Quiet};

use super::bless;
use super::outcome::Keep;
use super::parts;
use super::runs::{Found, Wanted, minimise};
use super::search::{Judge, Stopped, next_smaller, smallest};
use crate::engine::EngineKind;
use crate::exit::{self, Error};
use crate::run::backend::Backend as _;
use crate::run::directory::{self, RunDir};
use crate::run::fake::{self, After, FakeBackend};
use crate::run::once::{Once, Scratch};
use crate::scenario::{Scenario, limits};
use crate::spec::RunSpec;

/// Faults and incidents by number, frames, DMABUFs, bytes of a frame in eights, CPUs.
#[derive(Debug, Clone)]
struct Size {
    faults: BTreeSet<u32>,
    incidents: BTreeSet<u64>,
    frames: u32,
    buffers: u32,
    eights: u64,
    cpus: u8,
}

impl Size {
    fn of(s: &Scenario) -> Self {
        let t = s.transfer.as_ref().unwrap();
        let ticks = |i: &Incident| match i.action {
            Action::Pause { ticks } => ticks,
            _ => 0,
        };
        Size {
            faults: s.faults.inject.iter().map(|f| f.number()).collect(),
            incidents: s.usb.incidents.iter().map(ticks).collect(),
            frames: t.frames,
            buffers: t.buffers,
            eights: t.frame_bytes / 8,
            cpus: s.board.cpus,
        }
    }

    fn scenario(&self) -> Scenario {
        let mut s = Scenario::load("iio-to-usb").unwrap();
        let faults = self.faults.iter();
        s.faults.inject = faults
            .map(|n| Fault::Operation(*n, OperationFault::Drop))
            .collect();
        let incidents = self.incidents.iter();
        s.usb.incidents = incidents
            .map(|ticks| Incident {
                after_bytes: 0,
                action: Action::Pause { ticks: *ticks },
            })
            .collect();
        let t = s.transfer.as_mut().unwrap();
        (t.frames, t.buffers, t.frame_bytes) = (self.frames, self.buffers, self.eights * 8);
        t.last_frame_bytes = None;
        s.board.cpus = self.cpus;
        limits::check(&s, "").unwrap();
        s
    }

    fn has(&self, less: &Size) -> bool {
        less.faults.is_subset(&self.faults)
            && less.incidents.is_subset(&self.incidents)
            && (less.frames <= self.frames && less.buffers <= self.buffers)
            && (less.eights <= self.eights && less.cpus <= self.cpus)
    }
}

fn size() -> impl Strategy<Value = Size> {
    (
        prop::collection::btree_set(1..200_u32, 0..12),
        prop::collection::btree_set(1..200_u64, 0..6),
        (1..9_u32, 1..5_u32, 1..2048_u64, 1..5_u8),
    )
        .prop_map(
            |(faults, incidents, (frames, buffers, eights, cpus))| Size {
                faults,
                incidents,
                frames,
                buffers,
                eights,
                cpus,
            },
        )
}

/// A size and a smaller one.
fn sizes() -> impl Strategy<Value = (Size, Size)> {
    (size(), any::<u64>()).prop_map(|(size, by)| {
        let some = |n: usize| by >> (n % 60) & 1 == 1;
        let less = Size {
            faults: size
                .faults
                .iter()
                .copied()
                .filter(|n| some(*n as usize))
                .collect(),
            incidents: size
                .incidents
                .iter()
                .copied()
                .filter(|n| some(*n as usize + 7))
                .collect(),
            frames: 1 + (by % u64::from(size.frames)) as u32,
            buffers: 1 + (by % u64::from(size.buffers)) as u32,
            eights: 1 + by % size.eights,
            cpus: 1 + (by % u64::from(size.cpus)) as u8,
        };
        (size, less)
    })
}

struct By<F>(F, usize);

impl<F: Fn(&Scenario) -> bool> Judge for By<F> {
    fn same(&mut self, case: &Scenario) -> Result<bool, Stopped> {
        self.1 += 1;
        Ok((self.0)(case))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Where more of anything fails as well, what is found is what is needed.
    #[test]
    fn what_is_needed_is_found((size, needed) in sizes()) {
        let from = size.scenario();
        let mut judge = By(|case: &Scenario| Size::of(case).has(&needed), 0);
        let (found, ended) = smallest(&from, &mut judge);
        prop_assert_eq!(ended, Ok(()));
        prop_assert_eq!(found, needed.scenario_of(&from));
        prop_assert!(judge.1 < 700, "{}", judge.1);
    }

    /// Where that is not so, what is found fails, and with one thing less it does not.
    #[test]
    fn what_is_found_fails_and_nothing_next_to_it_does(size in size(), salt: u64, often in 1..6_u64) {
        let from = size.scenario();
        let fails = |case: &Scenario| {
            let text = serde_json::to_string(case).unwrap();
            let hash = digest::bytes(format!("{salt} {text}"));
            let drawn = u64::from_str_radix(digest::short(&hash), 16).unwrap_or(0);
            *case == from || drawn.is_multiple_of(often)
        };
        let (found, ended) = smallest(&from, &mut By(fails, 0));
        prop_assert_eq!(ended, Ok(()));
        prop_assert!(fails(&found));
        prop_assert!(Size::of(&from).has(&Size::of(&found)));
        prop_assert!(limits::check(&found, "").is_ok());
        let t = found.transfer.as_ref().unwrap();
        prop_assert!(t.frames > 0 && t.buffers > 0 && t.frame_bytes > 0);
        for smaller in next_smaller(&found) {
            prop_assert!(!fails(&smaller), "{}", parts::told(&smaller));
        }
    }
}

impl Size {
    /// The same in a scenario that is otherwise as this one, with DMABUFs no larger than they have to be.
    fn scenario_of(&self, from: &Scenario) -> Scenario {
        let mut s = self.scenario();
        let whole = from.transfer.as_ref().unwrap().clone();
        let t = s.transfer.as_mut().unwrap();
        *t = crate::scenario::Transfer {
            frames: t.frames,
            buffers: t.buffers,
            frame_bytes: t.frame_bytes,
            buffer_bytes: t.frame_bytes.next_multiple_of(limits::PAGE),
            ..whole
        };
        s
    }
}

fn spec(settings: &[&str]) -> RunSpec {
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    RunSpec::resolve("iio-capture", "base", EngineKind::default(), &settings).unwrap()
}

/// Each fault takes place; that of operation 101 is found, if there are two frames.
fn backend(runs: Arc<AtomicUsize>) -> FakeBackend {
    FakeBackend::new(move |attempt, execution, _| {
        runs.fetch_add(1, Ordering::Relaxed);
        let Some(report) = &mut execution.report else {
            return;
        };
        let faults = attempt.faults();
        let frames = attempt.spec.scenario.transfer.as_ref().unwrap().frames;
        for fault in &faults {
            report.domain.faults.push(Injected {
                fault: *fault,
                at: Some(1),
            });
        }
        if frames > 1 && faults.iter().any(|fault| fault.number() == 101) {
            report.domain.hazards.push(fake::stale_read(1, true));
        }
    })
}

fn found(
    backend: &FakeBackend,
    spec: &RunSpec,
    wanted: Wanted,
    progress: &dyn Progress,
) -> Result<Found, Error> {
    let scratch = Scratch::new().unwrap();
    let artifacts = backend.prepare(spec, &Quiet).unwrap();
    let once = Once {
        backend,
        scratch: &scratch,
    };
    minimise(spec, &artifacts, once, wanted, progress)
}

const ALL: Wanted = Wanted {
    keep: Keep::Diagnosis,
    runs: 1000,
    time: None,
};

#[test]
fn a_run_comes_down_to_what_it_takes_and_is_blessed() {
    let runs = Arc::default();
    let backend = backend(Arc::clone(&runs));
    let spec = spec(&[
        "inject=drop@7,drop@102,irq@3:lost",
        "drop-maintenance=1",
        "jitter-ticks=4",
    ]);
    let found = found(&backend, &spec, ALL, &Quiet).unwrap();
    assert_eq!(found.stopped, None);
    assert_eq!(found.runs, runs.load(Ordering::Relaxed));
    assert!(
        found.outcome.text().contains("missing-invalidate"),
        "{}",
        found.outcome.text()
    );
    let t = found.smallest.transfer.as_ref().unwrap();
    assert_eq!(
        (t.frames, t.buffers, t.frame_bytes, t.buffer_bytes),
        (2, 1, 8, 4096)
    );
    let drop = Fault::Operation(101, OperationFault::Drop);
    assert_eq!(found.smallest.faults.inject, [drop]);
    assert_eq!(
        (
            found.smallest.board.jitter_ticks,
            found.smallest.faults.drop_maintenance
        ),
        (0, None)
    );

    let smallest = bless::spec(&spec, &found.smallest).unwrap();
    assert_eq!(smallest.scenario, found.smallest);
    let command = &smallest.invocation;
    assert!(
        command.contains(" --set inject=drop@101 ") && command.contains("frames=2"),
        "{command}"
    );
    let dir = tempfile::tempdir().unwrap();
    let dir = RunDir::create(&dir.path().join("run")).unwrap();
    let artifacts = backend.prepare(&smallest, &Quiet).unwrap();
    let blessed = bless::bless(smallest, &artifacts, &backend, &dir, &Quiet).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.file(name)).unwrap();
    assert_eq!(read(directory::DIAGNOSTIC), blessed.diagnostic);
    assert!(
        blessed.diagnostic.contains("error[missing-invalidate]"),
        "{}",
        blessed.diagnostic
    );
    assert_eq!(read(directory::COMMAND).trim(), blessed.spec.invocation);
    let again = Scenario::parse(&read(directory::SCENARIO), "it").unwrap();
    assert_eq!(again, found.smallest);
}

#[test]
fn what_is_not_the_same_twice_is_not_blessed() {
    let n = AtomicUsize::new(0);
    let backend = FakeBackend::new(move |_, execution, _| {
        let line = 0x4500_0000 + 64 * n.fetch_add(1, Ordering::Relaxed) as u64;
        let hazard = fake::stale_read(1, true);
        if let Some(report) = &mut execution.report {
            report
                .domain
                .hazards
                .push(staleline_devices::coherency::hazard::Hazard {
                    first_pa: line,
                    line_pa: line,
                    ..hazard
                });
        }
    });
    let spec = spec(&[]);
    let dir = tempfile::tempdir().unwrap();
    let dir = RunDir::create(&dir.path().join("run")).unwrap();
    let artifacts = backend.prepare(&spec, &Quiet).unwrap();
    let e = bless::bless(spec, &artifacts, &backend, &dir, &Quiet)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(e.exit_code(), exit::INFRA);
    assert!(e.to_string().contains("the second time"), "{e}");
}

#[test]
fn a_budget_and_a_signal_leave_the_best_so_far() {
    let backend = backend(Arc::default());
    let spec = spec(&["inject=drop@7,drop@101,drop@102,irq@3:lost"]);
    let few = Wanted { runs: 9, ..ALL };
    let short = Wanted {
        time: Some(Duration::ZERO),
        ..ALL
    };
    let after = After::runs(9);
    for (wanted, progress, stopped) in [
        (few, &Quiet as &dyn Progress, Stopped::Budget),
        (short, &Quiet, Stopped::Budget),
        (ALL, &after, Stopped::Interrupted),
    ] {
        let found = found(&backend, &spec, wanted, progress).unwrap();
        assert_eq!(found.stopped, Some(stopped));
        assert!(found.runs <= 9);
        let needed = |f: &Fault| f.number() == 101;
        assert!(found.smallest.faults.inject.iter().any(needed));
    }
}

#[test]
fn what_passes_or_says_nothing_has_no_smallest() {
    let backend = backend(Arc::default());
    let e = found(&backend, &spec(&["inject=drop@7"]), ALL, &Quiet).unwrap_err();
    assert_eq!(e.exit_code(), exit::USAGE);
    assert!(e.to_string().contains("passes"), "{e}");
    let e = found(&backend, &spec(&["drop-maintenance=7"]), ALL, &Quiet).unwrap_err();
    assert_eq!(e.exit_code(), exit::USAGE);
    // A fault that the run does not come to.
    let never = FakeBackend::good();
    let e = found(&never, &spec(&["inject=drop@7"]), ALL, &Quiet).unwrap_err();
    assert_eq!(e.exit_code(), exit::INFRA);
    assert!(e.to_string().contains("drop@7 did not happen"), "{e}");
}
