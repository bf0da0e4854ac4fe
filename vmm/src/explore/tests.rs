// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Exploring without a guest: one seed, one run; what is kept, and what comes first.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use staleline_devices::coherency::hazard::HazardKind;
use staleline_support::progress::Quiet;

use super::draw::Space;
use super::known::{FILE, Failures, Known};
use super::runner::{Explorer, News, Wanted, Went};
use crate::engine::EngineKind;
use crate::evidence::Artifacts;
use crate::run::backend::Backend as _;
use crate::run::fake::{self, FakeBackend};
use crate::run::once::{Once, Scratch};
use crate::spec::RunSpec;

fn space(scenarios: &[&str], set: &[&str]) -> Space {
    let all = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    Space {
        scenarios: all(scenarios),
        kernels: all(&["base"]),
        engine: EngineKind::default(),
        set: all(set),
    }
}

#[test]
fn a_seed_is_one_run_and_another_is_another() {
    let names = [
        "iio-to-usb",
        "usb-to-iio",
        "usb-loopback",
        "iio-capture",
        "gdma-memcpy",
    ];
    let space = space(&names, &["board.power-on=clean"]);
    let draw = |seed| space.draw(seed).unwrap();
    let all: Vec<RunSpec> = (0..300).map(draw).collect();
    assert_eq!(all, (0..300).map(draw).collect::<Vec<_>>());
    let has = |what: &dyn Fn(&RunSpec) -> bool| all.iter().filter(|spec| what(spec)).count();
    for name in names {
        assert!(has(&|spec| spec.scenario.name == name) > 30, "{name}");
    }
    assert!(has(&|spec| spec.scenario.board.cpus > 1) > 50);
    assert!(has(&|spec| spec.scenario.cuts()) > 10);
    assert!(has(&|spec| spec.scenario.board.jitter_ticks > 0) > 50);
    let clean = |spec: &RunSpec| spec.invocation.contains("--set board.power-on=clean");
    assert_eq!(has(&clean), all.len());
    // The command that is printed is that run.
    for spec in &all {
        let words = &spec.invocation;
        assert!(
            words.starts_with(&format!("staleline run {} ", spec.scenario.name)),
            "{words}"
        );
    }
    let wrong = self::space(&["iio-capture"], &["frames=0"]);
    assert!(wrong.draw(1).is_err() && wrong.corners().is_err());
}

/// Runs with that many frames fail, and the others do not; which seeds were run.
fn backend(failing: Arc<AtomicUsize>, seen: Arc<Mutex<Vec<u64>>>) -> FakeBackend {
    FakeBackend::new(move |attempt, execution, _| {
        let scenario = &attempt.spec.scenario;
        seen.lock().unwrap().push(scenario.seed);
        let Some(report) = &mut execution.report else {
            return;
        };
        let frames = scenario.transfer.as_ref().unwrap().frames;
        report.domain.accesses = u64::from(frames) * 1000 + scenario.seed % 1000;
        report.domain.run_hash = scenario.seed;
        if frames as usize >= failing.load(Ordering::Relaxed) {
            report.domain.hazards.push(fake::stale_read(1, true));
        }
        if frames == 8 && failing.load(Ordering::Relaxed) == 7 {
            let kind = HazardKind::MissingClean;
            let other = fake::stale_read(1, true);
            report.domain.hazards =
                vec![staleline_devices::coherency::hazard::Hazard { kind, ..other }];
        }
    })
}

const WANTED: Wanted = Wanted {
    seed: 100,
    runs: Some(60),
    time: None,
    jobs: 2,
    right: true,
    faults: false,
};

fn explore(backend: &FakeBackend, dir: &Path, wanted: Wanted) -> Went {
    // The converter of that machine brings so much and no more.
    let space = space(&["iio-capture"], &["frame-bytes=64", "last-frame-bytes=64"]);
    let corners = space.corners().unwrap();
    let guests: Vec<(RunSpec, Artifacts)> = corners
        .into_iter()
        .map(|spec| {
            let artifacts = backend.prepare(&spec, &Quiet).unwrap();
            (spec, artifacts)
        })
        .collect();
    let scratch = Scratch::new().unwrap();
    let explorer = Explorer {
        space: &space,
        once: Once {
            backend,
            scratch: &scratch,
        },
        guests: &guests,
        program: "this",
        wanted,
    };
    explorer
        .explore(&mut Failures::open(dir).unwrap(), &Quiet)
        .unwrap()
}

#[test]
fn the_shortest_is_kept_run_first_and_told_when_it_is_fixed() {
    let dir = tempfile::tempdir().unwrap();
    let (failing, seen) = (Arc::new(AtomicUsize::new(7)), Arc::default());
    let backend = backend(Arc::clone(&failing), Arc::clone(&seen));
    let went = explore(&backend, dir.path(), WANTED);
    assert_eq!((went.seeds, went.trouble.len()), (60, 0));
    assert!(went.failed > 5, "{}", went.failed);
    let open = Failures::open(dir.path()).unwrap().open_ones();
    assert_eq!(open.len(), 2, "{open:?}");
    assert!(open.iter().all(|known| known.accesses >= 7000));
    // One seed alone is the same failure.
    let one = Wanted {
        seed: open[0].seed,
        runs: Some(1),
        ..WANTED
    };
    let other = tempfile::tempdir().unwrap();
    let went = explore(&backend, other.path(), one);
    let [News::New(known)] = &went.news[..] else {
        panic!("{:?}", went.news)
    };
    assert_eq!(known, &open[0]);

    // The next time, they come first, and nothing new is known.
    seen.lock().unwrap().clear();
    let few = Wanted {
        runs: Some(3),
        jobs: 1,
        ..WANTED
    };
    let went = explore(&backend, dir.path(), few);
    let seeds: Vec<u64> = open.iter().map(|known| known.spec.scenario.seed).collect();
    assert_eq!(seen.lock().unwrap()[..2], seeds);
    assert!(
        went.news[..2]
            .iter()
            .all(|news| matches!(news, News::Still(_))),
        "{:?}",
        went.news
    );

    // A program that was put right.
    failing.store(100, Ordering::Relaxed);
    let went = explore(&backend, dir.path(), few);
    assert!(went.news.iter().all(|news| matches!(news, News::Fixed(_))) && went.news.len() == 2);
    assert_eq!(went.failed, 0);
    let mut file = std::fs::read(dir.path().join(FILE)).unwrap();
    assert!(Failures::open(dir.path()).unwrap().open_ones().is_empty());
    // Lines that were cut short are told, and end where they end.
    file.extend(b"{\"seed\": 1");
    std::fs::write(dir.path().join(FILE), &file).unwrap();
    assert_eq!(Failures::open(dir.path()).unwrap().damaged, 1);
    let after = std::fs::read(dir.path().join(FILE)).unwrap();
    assert!(after.ends_with(b"\n") && after.starts_with(&file));
}

#[test]
fn when_the_time_is_over_no_run_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(Arc::new(AtomicUsize::new(100)), Arc::default());
    let none = Wanted {
        time: Some(Duration::ZERO),
        runs: None,
        ..WANTED
    };
    let went = explore(&backend, dir.path(), none);
    assert_eq!((went.seeds, went.failed, went.news.len()), (0, 0, 0));
}

#[test]
fn on_kernels_that_may_be_wrong_only_a_miss_is_a_failure() {
    let some = Wanted {
        right: false,
        runs: Some(8),
        ..WANTED
    };
    let found = backend(Arc::new(AtomicUsize::new(1)), Arc::default());
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(explore(&found, dir.path(), some).failed, 0);
    let blind =
        FakeBackend::new(|_, _, text| *text = text.replace("\"corrupt\":0", "\"corrupt\":64"));
    let went = explore(&blind, dir.path(), some);
    assert_eq!(went.failed, 8);
    let [News::New(known), ..] = &went.news[..] else {
        panic!("{:?}", went.news)
    };
    assert!(known.diagnosis.starts_with("miss: "), "{}", known.diagnosis);
    let lame = FakeBackend::new(|_, execution, _| execution.report = None);
    assert_eq!(explore(&lame, dir.path(), some).failed, 8);
}

/// By a run without them that fails, or was stopped, nothing can be judged.
#[test]
fn a_failure_with_faults_is_fixed_only_if_the_run_without_passes() {
    let mut spec = space(&["iio-capture"], &["frame-bytes=64", "last-frame-bytes=64"])
        .draw(1)
        .unwrap();
    spec.scenario.faults.inject = vec!["drop@101".parse().unwrap()];
    let known = Known {
        seed: 1,
        diagnosis: "miss of drop".into(),
        fixed: false,
        accesses: 1,
        program: "before".into(),
        spec: Box::new(spec),
    };
    let few = Wanted {
        runs: Some(1),
        jobs: 1,
        ..WANTED
    };
    for is_right in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut failures = Failures::open(dir.path()).unwrap();
        assert!(failures.add(known.clone()).unwrap());
        let backend = FakeBackend::new(move |attempt, execution, _| {
            let has_faults = !attempt.spec.scenario.faults.inject.is_empty();
            if let (false, false, Some(report)) = (has_faults, is_right, &mut execution.report) {
                report.domain.hazards.push(fake::stale_read(1, true));
            }
        });
        let went = explore(&backend, dir.path(), few);
        let fixed = went
            .news
            .iter()
            .any(|news| matches!(news, News::Fixed(of) if *of == known));
        assert_eq!(fixed, is_right, "{:?}", went.news);
        assert_eq!(went.trouble.len(), usize::from(!is_right));
        let open = Failures::open(dir.path()).unwrap().open_ones();
        assert_eq!(open.contains(&known), !is_right);
    }
}
