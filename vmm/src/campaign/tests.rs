// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Campaigns over a machine that is none: what is planned, what is made of runs, and what stopping, going on and
//! sharing leave of it.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod judged;
mod told;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use staleline_devices::coherency::census::{
    Census, CountedAccess, CountedBarrier, CountedInterrupt, CountedNeighbours, Next,
};
use staleline_devices::coherency::hazard::{Hazard, HazardKind};
use staleline_devices::cpu::{Barrier, BarrierKind, CacheOp, CpuId, LINE};
use staleline_devices::dma::{Content, Direction, MasterId, TransferId};
use staleline_devices::events::Cached;
use staleline_devices::faults::{Fault, Injected, OperationFault, Until};
use staleline_devices::soc::report::SocReport;
use staleline_results::{GuestEnd, RunResult};
use staleline_support::progress::{Progress, Quiet};
use tempfile::TempDir;

use super::file::{Campaign, Mode};
use super::judge::{Golden, Outcome, judge};
use super::merge;
use super::plan::{self, Planned};
use super::report::Report;
use super::runner;
use super::store::{Entry, FILE, Head, Store, TargetHead};
use super::target::{Runs, Target};
use super::times;
use crate::engine::EngineKind;
use crate::evidence::Execution;
use crate::exit::{self, Error};
use crate::run::backend::Attempt;
use crate::run::fake::{self, After, FakeBackend};
use crate::run::once::{Once, Scratch};

fn file(more: &str) -> String {
    format!("schema = 1\n{more}\n[[target]]\nscenarios = [\"iio-capture\"]\nkernels = [\"base\"]\n")
}

fn parse(more: &str) -> Result<Campaign, Error> {
    Campaign::parse(&file(more), "a file")
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    for (more, expect) in [
        ("[sample]\ncheck = 1.5", "sample.check is a share"),
        ("[sample]\nrepeat = -1.0", "sample.repeat is a share"),
        ("[sample]\nconfidence = 0.8", "0.9, 0.95 or 0.99"),
        ("[sample]\nmargin = 0.9", "sample.margin"),
        ("[sample]\nmode = \"some\"", "unknown variant"),
        ("[faults]\nlate-ticks = 0", "late-ticks"),
        ("[faults]\nclasses = [\"lose\"]", "there are these: drop"),
        ("[faults]\npairs = 4000000000", "pairs is at most"),
        ("faults = 1", "invalid type"),
    ] {
        let e = parse(more).unwrap_err();
        let text = format!("{e}: {}", e.chain());
        assert_eq!(e.exit_code(), exit::USAGE, "{more}");
        assert!(text.contains(expect), "{more}: {text}");
    }
    let none = Campaign::parse("schema = 1\ntarget = []\n", "a file").unwrap_err();
    assert!(none.to_string().contains("proves nothing"), "{none}");
    let other = Campaign::parse("schema = 2\ntarget = []\n", "a file").unwrap_err();
    assert!(other.to_string().contains("reads schema = 1"), "{other}");
    let own = "schema = 1\n[[target]]\nscenarios = [\"iio-capture\"]\nkernels = [\"base\"]\n\
               set = [\"inject=drop@1\"]\n";
    let own = Campaign::parse(own, "a file").unwrap();
    let e = own.targets(EngineKind::default()).unwrap_err();
    assert!(e.to_string().contains("faults of its own"), "{e}");
}

/// What can go wrong beside the six operations of the machine that is none.
fn census() -> Census {
    let access = |number: u32| CountedAccess {
        number,
        master: MasterId(0),
        transfer: TransferId(number),
        content: Content::Data,
        write: true,
        snoops: false,
        pa: 0x4500_0000,
        len: 96,
        word: 0,
        found: Cached::Clean,
        uncleaned: false,
        next: Some(Next::Cpu),
        at: 1000 * u64::from(number) + 100,
    };
    Census {
        neighbours: Vec::new(),
        barriers: (1..=6)
            .map(|n| CountedBarrier {
                number: 10 * n,
                cpu: CpuId::BOOT,
                barrier: Barrier::DSB_SY,
                operations: (100 + n, 100 + n),
                starts: None,
                followed: None,
                alone_for_stores: false,
                alone_for_loads: false,
                at: 1000 * u64::from(n) + 700,
            })
            .collect(),
        interrupts: (1..=6)
            .map(|number| CountedInterrupt {
                number,
                irq: 48,
                early: true,
                at: 1000 * u64::from(number) + 500,
            })
            .collect(),
        accesses: (1..=6).map(access).collect(),
        full: false,
    }
}

fn found(kind: HazardKind, pa: u64) -> Hazard {
    Hazard {
        kind,
        first_pa: pa,
        end_pa: pa + 64,
        line_pa: pa,
        ..fake::stale_read(1, true)
    }
}

/// The report of a run in which faults take place, with a census if one is wanted; if there is a report.
fn injected<'a>(attempt: &Attempt<'_>, execution: &'a mut Execution) -> Option<&'a mut SocReport> {
    let report = execution.report.as_mut()?;
    report.domain.census = attempt.census.then(census);
    let faults = attempt.faults().into_iter();
    let faults = faults.map(|fault| Injected { fault, at: Some(1) });
    report.domain.faults.extend(faults);
    Some(report)
}

/// Faults take place, and runs are stopped by the time if `hangs` says so of theirs.
fn stopped(hangs: impl Fn(&[Fault]) -> bool + Send + Sync + 'static) -> FakeBackend {
    FakeBackend::new(
        move |attempt: Attempt<'_>, execution: &mut Execution, _: &mut String| {
            if injected(&attempt, execution).is_some() && hangs(&attempt.faults()) {
                execution.end = GuestEnd::TimedOut;
            }
        },
    )
}

/// Faults take place, and those of whole operations are found; `missed` are not.
fn backend(missed: &'static [u32]) -> FakeBackend {
    FakeBackend::new(
        move |attempt: Attempt<'_>, execution: &mut Execution, text: &mut String| {
            let Some(report) = injected(&attempt, execution) else {
                return;
            };
            for fault in attempt.faults() {
                report.domain.run_hash ^=
                    u64::from(fault.number()) << 8 | fault.to_string().len() as u64;
                match fault {
                    // What is left undone is found; if nothing is done at all, wrong bytes are seen.
                    Fault::Operation(n, OperationFault::Drop | OperationFault::Skip { .. })
                        if missed.contains(&n) =>
                    {
                        *text = text.replace("\"corrupt\":0", "\"corrupt\":64");
                    }
                    Fault::Operation(
                        n,
                        what @ (OperationFault::Drop
                        | OperationFault::Skip { .. }
                        | OperationFault::As(_)
                        | OperationFault::Delay(Until::Start | Until::End)),
                    ) => {
                        let from = match what {
                            OperationFault::Skip { from, .. } => u64::from(from),
                            _ => 0,
                        };
                        if matches!(what, OperationFault::Drop | OperationFault::Skip { .. }) {
                            *text = text.replace("\"corrupt\":0", "\"corrupt\":64");
                        }
                        let done = report.domain.maintenance.operation(n);
                        let at = done.map_or(0, |op| op.at) + 1;
                        let pa = 0x4500_0000 + from * LINE;
                        let hazard = found(HazardKind::MissingInvalidate, pa);
                        report.domain.hazards.push(Hazard { at, ..hazard });
                    }
                    Fault::Operation(_, OperationFault::WidenAfter) => {
                        let hazard = found(HazardKind::MissingBarrier, 0x4700_0000);
                        report.domain.hazards.push(hazard);
                    }
                    _ => {}
                }
            }
        },
    )
}

/// A campaign that is ready to run.
struct Ready {
    targets: Vec<Target>,
    plan: Vec<Planned>,
    head: Head,
}

impl Ready {
    fn new(runs: Runs<'_>, more: &str) -> Self {
        let campaign = parse(more).unwrap();
        let specs = campaign.targets(EngineKind::default()).unwrap();
        let targets = specs
            .into_iter()
            .map(|spec| runs.target(spec, &campaign, &Quiet));
        let targets: Vec<Target> = targets.collect::<Result<_, _>>().unwrap();
        let points: Vec<_> = targets.iter().map(|target| target.points.clone()).collect();
        let plan = plan::plan(&campaign, &points);
        let head = Head {
            schema: super::store::SCHEMA,
            campaign: file(more),
            path: "/nowhere".into(),
            program: "this".into(),
            engine: EngineKind::default(),
            sample: campaign.sample.clone(),
            targets: targets.iter().map(TargetHead::of).collect(),
            plan: plan::hash(&plan),
            share: None,
        };
        Ready {
            targets,
            plan,
            head,
        }
    }

    /// A store for it, and the directory that goes with that.
    fn store(&self) -> (TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path(), &self.head, &self.plan).unwrap();
        (dir, store)
    }

    fn all(&self) -> Vec<&Planned> {
        self.plan.iter().collect()
    }

    fn run(
        &self,
        runs: Runs<'_>,
        store: &Store,
        share: &[&Planned],
        progress: &dyn Progress,
    ) -> usize {
        runner::run(runs, &self.targets, share, (store, 2), progress).unwrap()
    }
}

/// Runs over such a backend.
fn with<R>(backend: &FakeBackend, body: impl FnOnce(Runs<'_>) -> R) -> R {
    let scratch = Scratch::new().unwrap();
    let once = Once {
        backend,
        scratch: &scratch,
    };
    body(Runs { once, boot: true })
}

/// But for times, which are none of it.
fn entries(store: &Store) -> Vec<Entry> {
    let entries = store.entries().unwrap().into_iter();
    entries
        .map(|entry| Entry {
            wall_us: 0,
            after_us: 0,
            rss_kib: 0,
            hung: 0,
            ..entry
        })
        .collect()
}

const LOST: &str = "[faults]\nclasses = [\"irq:lost\"]\n";
const EXHAUSTIVE: &str = "[sample]\nmode = \"exhaustive\"\nrepeat = 0.2";

#[test]
fn straight_interrupted_and_in_shares_it_comes_to_the_same() {
    with(&backend(&[103]), |runs| {
        let ready = Ready::new(runs, EXHAUSTIVE);
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let all = ready.all();
        let straight = Store::create(&at("straight"), &ready.head, &ready.plan).unwrap();
        assert_eq!(ready.run(runs, &straight, &all, &Quiet), 0);
        assert_eq!(straight.entries().unwrap().len(), all.len());
        assert!(
            straight
                .entries()
                .unwrap()
                .iter()
                .any(|entry| entry.same == Some(true))
        );

        let stopped = at("stopped");
        let store = Store::create(&stopped, &ready.head, &ready.plan).unwrap();
        for _ in 0..3 {
            assert!(ready.run(runs, &store, &all, &After::runs(7)) > 0);
        }
        drop(store);
        let store = Store::open(&stopped).unwrap();
        assert_eq!(store.begun_with().unwrap().1, ready.plan);
        assert_eq!(store.head().unwrap().differs(&ready.head), None);
        assert_eq!(ready.run(runs, &store, &all, &Quiet), 0);
        assert_eq!(entries(&store), entries(&straight));

        let shares = ["one", "two"].map(|name| {
            let path = at(name);
            let store = Store::create(&path, &ready.head, &ready.plan).unwrap();
            let odd = u32::from(name == "two");
            let share: Vec<&Planned> = all.iter().copied().filter(|p| p.id % 2 == odd).collect();
            assert_eq!(ready.run(runs, &store, &share, &Quiet), 0);
            path
        });
        let (merged, _lock) = merge::merge(&shares, &at("merged")).unwrap();
        assert_eq!(entries(&merged), entries(&straight));
        let twice = [shares[0].clone(), shares[0].clone()];
        let e = merge::merge(&twice, &at("twice")).map(|_| ()).unwrap_err();
        assert_eq!(e.exit_code(), exit::USAGE, "{e}");
        let other = Head {
            program: "that".into(),
            ..ready.head.clone()
        };
        let path = at("other");
        Store::create(&path, &other, &ready.plan).unwrap();
        let e = merge::merge(&[shares[0].clone(), path], &at("both"))
            .map(|_| ())
            .unwrap_err();
        assert!(e.to_string().contains("staleline or its plugin"), "{e}");
        for refused in ["twice", "both"] {
            assert!(!dir.path().join(refused).join(FILE).exists(), "{refused}");
        }
        // What is not there is not made, nor is where it was to go to.
        let (nowhere, out) = (dir.path().join("nowhere"), dir.path().join("out"));
        let parts = [shares[0].clone(), nowhere.clone()];
        let e = merge::merge(&parts, &out).map(|_| ()).unwrap_err();
        assert_eq!(e.exit_code(), exit::USAGE, "{e}");
        assert!(!nowhere.exists() && !out.exists());
        let e = merge::merge(&shares, &shares[0]).map(|_| ()).unwrap_err();
        assert!(matches!(e, Error::CampaignExists { .. }), "{e}");
    });
}

/// Nothing is known of what could not be carried out, and whatever kept it from that may be over.
#[test]
fn what_said_nothing_is_made_again_when_it_is_gone_on_with() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let backend = FakeBackend::new(
        move |attempt: Attempt<'_>, execution: &mut Execution, _: &mut String| {
            injected(&attempt, execution);
            let mut faults = attempt.faults().into_iter();
            if faults.any(|f| f.number() == 3) && is_broken.load(Ordering::Relaxed) {
                execution.report = None;
            }
        },
    );
    with(&backend, |runs| {
        let ready = Ready::new(runs, &format!("{LOST}{EXHAUSTIVE}"));
        let (_dir, store) = ready.store();
        let all = ready.all();
        let code = || {
            let entries = store.entries().unwrap();
            let report = Report {
                head: &ready.head,
                plan: &ready.plan,
                entries: &entries,
                confidence: 0.95,
            };
            (entries.len(), report.exit_code())
        };
        assert_eq!(ready.run(runs, &store, &all, &Quiet), 0);
        assert_eq!(code(), (all.len(), exit::INFRA));
        let before = entries(&store);
        broken.store(false, Ordering::Relaxed);
        assert_eq!(ready.run(runs, &store, &all, &Quiet), 0);
        assert_eq!(code(), (all.len(), exit::PASS));
        // And nothing else is.
        let last = store.sessions().unwrap().pop().unwrap();
        assert!((1..=2).contains(&last.guests), "{last:?}");
        let again = entries(&store);
        let changed = before.iter().zip(&again).filter(|(a, b)| a != b);
        let changed: Vec<u32> = changed.map(|(entry, _)| entry.id).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!(ready.plan[changed[0] as usize].setting(), "irq@3:lost");
    });
}

/// A guest among others takes too long, and alone it does not.
#[test]
fn others_that_run_at_the_time_make_no_run_hang() {
    let active = AtomicUsize::new(0);
    let backend = stopped(move |_| {
        let before = active.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        let after = active.fetch_sub(1, Ordering::SeqCst);
        before > 0 || after > 1
    });
    with(&backend, |runs| {
        let ready = Ready::new(runs, "[sample]\nmode = \"exhaustive\"\nrepeat = 0.0");
        let (_dir, store) = ready.store();
        let all = ready.all();
        let left = runner::run(runs, &ready.targets, &all, (&store, 16), &Quiet).unwrap();
        assert_eq!(left, 0);
        let entries = store.entries().unwrap();
        let hangs = |entry: &&Entry| entry.judged.outcome == Outcome::Hang;
        assert_eq!(entries.iter().filter(hangs).count(), 0);
        let told = times::busy(&entries, &store.sessions().unwrap()).unwrap();
        assert!(told.contains("--jobs 16"), "{told}");
    });
}

#[test]
fn what_is_missed_or_misnamed_is_the_headline() {
    with(&backend(&[103]), |runs| {
        let ready = Ready::new(runs, EXHAUSTIVE);
        let (_dir, store) = ready.store();
        let all = ready.all();
        ready.run(runs, &store, &all, &Quiet);
        let entries = store.entries().unwrap();
        let report = Report {
            head: &ready.head,
            plan: &ready.plan,
            entries: &entries,
            confidence: 0.95,
        };
        let of = |outcome| -> Vec<String> {
            let entries = entries
                .iter()
                .filter(|entry| entry.judged.outcome == outcome);
            entries
                .map(|entry| ready.plan[entry.id as usize].setting())
                .collect()
        };
        let missed = of(Outcome::Miss);
        assert!(missed.contains(&"drop@103".to_owned()), "{missed:?}");
        assert!(
            missed.iter().all(|fault| fault.contains("@103")),
            "{missed:?}"
        );
        let misnamed = of(Outcome::Misdiagnosed);
        assert_eq!(misnamed.len(), 6);
        assert!(
            misnamed.iter().all(|fault| fault.starts_with("widen@")),
            "{misnamed:?}"
        );
        assert!(of(Outcome::DetectedVisible).contains(&"drop@101".to_owned()));
        assert!(of(Outcome::NoEffect).contains(&"irq@3:lost".to_owned()));
        assert_eq!(report.exit_code(), exit::FAIL);
        let text = report.text();
        assert!(text.contains("--set inject=drop@103"), "{text}");
        let mut junit = Vec::new();
        report.write_junit(&mut junit).unwrap();
        let junit = String::from_utf8(junit).unwrap();
        assert!(
            junit.contains("iio-capture on base: widen:after"),
            "{junit}"
        );
        assert_eq!(junit.matches("<failure").count(), 2 + 1, "{junit}");
        // All of one place are one group, of which the first speaks for the others.
        let predicted = report.predicted();
        assert!(predicted.tested > 0 && predicted.wrong > 0, "{predicted:?}");
    });
}

#[test]
fn a_target_that_fails_and_a_canary_that_lives_prove_nothing() {
    let failing = FakeBackend::new(|attempt, execution, _| {
        if let Some(report) = &mut execution.report {
            report.domain.census = attempt.census.then(census);
            report
                .domain
                .hazards
                .push(found(HazardKind::MissingClean, 0x4500_0000));
        }
    });
    let campaign = parse("").unwrap();
    let spec = || campaign.targets(EngineKind::default()).unwrap().remove(0);
    with(&failing, |runs| {
        let e = runs
            .target(spec(), &campaign, &Quiet)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(e.exit_code(), exit::INFRA);
        assert!(
            e.to_string().contains("does not pass without faults"),
            "{e}"
        );
    });
    let blind = backend(&[101, 102, 103, 104, 105, 106]);
    with(&blind, |runs| {
        let target = runs.target(spec(), &campaign, &Quiet).unwrap();
        let e = runner::check(runs, (&[target], &[]), &Quiet).unwrap_err();
        assert_eq!(e.exit_code(), exit::INFRA);
        assert!(e.to_string().contains("drop@101"), "{e}");
    });
    with(&backend(&[]), |runs| {
        let target = runs.target(spec(), &campaign, &Quiet).unwrap();
        runner::check(runs, (&[target], &[]), &Quiet).unwrap();
        runner::check(runs, (&[], &[]), &Quiet).unwrap_err();
    });
}

/// It is a result if it is among what is run, and else nobody would hear of it.
#[test]
fn a_canary_that_lives_beside_one_that_is_found_is_told() {
    // The first that is needed for a transfer is missed, the first of all is not.
    let missed = backend(&[102]);
    with(&missed, |runs| {
        let Ready {
            mut targets, plan, ..
        } = Ready::new(runs, EXHAUSTIVE);
        let mut report = fake::soc_report();
        // Of a line that no transfer touches.
        let first = &mut report.domain.maintenance.operations[0];
        (first.lines, first.dma_lines, first.needed_lines) = (1, 1, 1);
        for transfer in &mut report.domain.transfers {
            transfer.transfer.pa += LINE;
        }
        targets[0].golden = Golden::new(&report);
        let canaries = runner::canaries(&targets[0]);
        let names: Vec<String> = canaries.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["drop@102", "drop@101"]);
        runner::check(runs, (&targets, &plan), &Quiet).unwrap();
        // Who has another run does not hear of it.
        let mut others = plan;
        others.retain(|planned| planned.setting() != "drop@102");
        let e = runner::check(runs, (&targets, &others), &Quiet).unwrap_err();
        assert!(e.to_string().contains("drop@102 came to miss"), "{e}");
    });
}

/// Faults are of two groups where it is known beforehand what makes them differ.
#[test]
fn groups_go_by_what_comes_in_time_by_rings_and_by_neighbours() {
    let mut census = census();
    // Behind that of operation 103 comes another barrier at once, behind that of 102 after the next transfer has begun.
    census.barriers[2].followed = Some(3750);
    census.barriers[1].followed = Some(3700);
    census.neighbours.push(CountedNeighbours {
        operation: 104,
        before: true,
        behind: false,
        own: false,
    });
    census.accesses[0].content = Content::Descriptor;
    census.accesses[1].content = Content::Descriptor;
    census.accesses[1].pa = 0x4600_0000;
    let mut report = fake::soc_report();
    report.domain.census = Some(census);
    let spec = parse("").unwrap().targets(EngineKind::default()).unwrap();
    let result = FakeBackend::good().run(&spec[0]);
    let points = super::points::Census::new(&result, &report).points(&spec[0].scenario, 7, 1);
    let group = |fault: &str| {
        let of = |point: &&super::points::Point| point.fault.to_string() == fault;
        points.iter().find(of).unwrap().group.clone()
    };
    assert!(group("delay@103:barrier").contains("delay:barrier in time"));
    assert!(!group("delay@102:barrier").contains("in time"));
    assert!(group("barrier@30:removed").contains("made good in time"));
    assert!(!group("barrier@20:removed").contains("made good in time"));
    assert!(group("widen@104:before").contains("widen:before written"));
    assert!(!group("widen@104:after").contains("written"));
    assert!(!group("widen@103:before").contains("written"));
    assert!(group("beat@1:error").contains("descriptor of ring 1"));
    assert!(group("beat@1:late+7").contains(", then writes descriptor and writes data"));
    assert!(group("beat@6:late+7").contains(", then nothing and nothing"));
    assert!(group("beat@2:error").contains("descriptor of ring 2"));
    assert!(!group("beat@3:error").contains("of ring"));
}

#[test]
fn a_plan_is_the_same_each_time_and_has_one_of_each_group() {
    with(&backend(&[]), |runs| {
        let plan = |more: &str| Ready::new(runs, more).plan;
        let pruned = plan("[faults]\npairs = 20");
        assert_eq!(pruned, plan("[faults]\npairs = 20"));
        let groups: std::collections::HashSet<&str> = pruned.iter().map(|p| &*p.group).collect();
        let pilots: Vec<&Planned> = pruned.iter().filter(|p| p.pilot).collect();
        assert_eq!(pilots.len(), groups.len());
        assert!(pilots.iter().all(|p| p.run));
        let of_software = |p: &&Planned| p.faults.iter().all(|fault| fault.is_software());
        let pairs = |plan: &[Planned]| -> (usize, usize) {
            let all: Vec<&Planned> = plan.iter().filter(|p| p.faults.len() == 2).collect();
            (all.len(), all.into_iter().filter(of_software).count())
        };
        assert_eq!(pairs(&pruned), (20, 20));
        let (all, some) = pairs(&plan("[faults]\npairs = 20\npairs-of = \"all\""));
        assert!(all == 20 && some < all, "{some}");
        assert!(pruned.iter().any(|p| !p.run));
        assert!(plan(EXHAUSTIVE).iter().all(|p| p.run));
        let sampled = plan("[sample]\nmode = \"sampled\"\nmargin = 0.1");
        let run = sampled.iter().filter(|p| p.run).count();
        assert_eq!(run, plan::sample_size(sampled.len(), 0.95, 0.1));
        let barriers = plan("[faults]\nclasses = [\"barrier\"]");
        assert!(
            barriers.iter().all(|p| p.class().starts_with("barrier:")),
            "{barriers:?}"
        );
        assert_ne!(plan::hash(&pruned), plan::hash(&barriers));
    });
}

#[test]
fn a_file_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |dir: &Path| {
        Store::open(dir)
            .and_then(|store| store.head())
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(refused(dir.path()).exit_code(), exit::USAGE);
    std::fs::write(
        dir.path().join(super::store::FILE),
        b"no database at all, but some text",
    )
    .unwrap();
    let e = refused(dir.path());
    assert!(e.help().is_some(), "{e}");
    assert_eq!(e.exit_code(), exit::USAGE);
}

/// Whoever has changed it, or what has: results are of the plan that they were begun with.
#[test]
fn a_store_that_is_not_what_was_written_is_refused() {
    with(&backend(&[]), |runs| {
        let ready = Ready::new(runs, "");
        let changed = |sql: &str| {
            let (dir, store) = ready.store();
            assert!(store.begun_with().is_ok());
            drop(store);
            let connection = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
            connection.execute_batch(sql).unwrap();
            drop(connection);
            let read = Store::open(dir.path()).and_then(|store| store.begun_with().map(drop));
            read.map_err(|e| e.exit_code())
        };
        assert_eq!(changed("DELETE FROM session"), Ok(()));
        for sql in [
            "DELETE FROM plan WHERE id = 3",
            "UPDATE plan SET run = 0 WHERE id = 0",
            "UPDATE plan SET faults = 'nonsense' WHERE id = 3",
            "DROP TABLE plan",
            "DELETE FROM head",
        ] {
            assert_eq!(changed(sql), Err(exit::USAGE), "{sql}");
        }
        // A page whose head is not what SQLite has written.
        let (dir, store) = ready.store();
        drop(store);
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() - 4096;
        bytes[at..at + 64].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let read = Store::open(dir.path()).and_then(|store| store.begun_with().map(drop));
        assert_eq!(read.map_err(|e| e.exit_code()), Err(exit::USAGE));
    });
}

/// Whatever was found until then.
#[test]
fn a_run_that_is_stopped_before_it_is_found_is_no_miss() {
    let tries = AtomicUsize::new(0);
    let backend = FakeBackend::new(
        move |attempt: Attempt<'_>, execution: &mut Execution, _: &mut String| {
            let Some(report) = injected(&attempt, execution) else {
                return;
            };
            for fault in attempt.faults() {
                let is_third = fault.number() == 103;
                if is_third && tries.fetch_add(1, Ordering::Relaxed) == 0 {
                    execution.end = GuestEnd::TimedOut;
                    return;
                }
                let done = report.domain.maintenance.operation(fault.number());
                let at = done.unwrap().at + 1;
                let hazard = found(HazardKind::MissingInvalidate, 0x4500_0000);
                report.domain.hazards.push(Hazard { at, ..hazard });
            }
        },
    );
    with(&backend, |runs| {
        let drops = "[faults]\nclasses = [\"drop\"]\n";
        let ready = Ready::new(runs, &format!("{drops}{EXHAUSTIVE}"));
        let (_dir, store) = ready.store();
        let all = ready.all();
        assert_eq!(ready.run(runs, &store, &all, &Quiet), 0);
        let entries = store.entries().unwrap();
        let outcomes: Vec<Outcome> = entries.iter().map(|e| e.judged.outcome).collect();
        assert_eq!(outcomes, [Outcome::DetectedLatent; 6]);
        let hung: Vec<u32> = entries.iter().map(|e| e.hung).collect();
        assert_eq!(hung.iter().sum::<u32>(), 1);
    });
}

/// It may have been the host that took the time.
#[test]
fn a_run_that_is_stopped_by_the_time_is_made_once_more() {
    let tries = AtomicUsize::new(0);
    let backend = stopped(move |faults| {
        faults.iter().any(|fault| match fault.number() {
            2 => tries.fetch_add(1, Ordering::Relaxed) == 0,
            number => number == 3,
        })
    });
    with(&backend, |runs| {
        let ready = Ready::new(runs, &format!("{LOST}{EXHAUSTIVE}"));
        let (_dir, store) = ready.store();
        let all = ready.all();
        assert_eq!(ready.run(runs, &store, &all, &Quiet), 0);
        let hung: Vec<String> = entries(&store)
            .iter()
            .filter(|entry| entry.judged.outcome == Outcome::Hang)
            .map(|entry| ready.plan[entry.id as usize].setting())
            .collect();
        assert_eq!(hung, ["irq@3:lost"]);
        // That it was so only once is told.
        let all = store.entries().unwrap();
        let once = all.iter().filter(|entry| entry.hung == 1);
        let once: Vec<String> = once
            .map(|entry| ready.plan[entry.id as usize].setting())
            .collect();
        assert_eq!(once, ["irq@2:lost"]);
    });
}
