// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use std::fs;
use std::path::{Path, PathBuf};

use staleline_devices::cpu::{CacheOp, ChainId, CpuId, SiteId};
use staleline_devices::dma::{Content, MasterId, TransferId};
use staleline_devices::events::{Cached, Event};
use staleline_support::progress::Quiet;

use super::*;
use crate::engine::EngineKind;
use crate::events::sample::write_log;
use crate::matrix::record::{Asked, CELLS, Cells, Origin};
use crate::matrix::{Extent, Matrix, runner};
use crate::query::Told;
use crate::run::directory::{self, RunDir};
use crate::run::fake::{self, FakeBackend};
use crate::run::logbook;
use crate::run::orchestrate::Runner;
use crate::spec::RunSpec;

fn run(dir: &Path, kernel: &str, backend: &FakeBackend) -> PathBuf {
    let spec = RunSpec::resolve("iio-capture", kernel, EngineKind::default(), &[]).unwrap();
    let runner = Runner {
        backend,
        progress: &Quiet,
        trace: false,
    };
    let run = RunDir::create(dir).unwrap();
    let files = &mut logbook::files(&run).unwrap();
    runner.run(&spec, &run, files).unwrap();
    dir.to_owned()
}

/// A capture that invalidates half as much.
fn thrifty() -> FakeBackend {
    FakeBackend::new(|_, e, _| {
        let operations = &mut e.report.as_mut().unwrap().domain.maintenance.operations;
        operations.truncate(3);
    })
}

/// One in which user space reads too early.
fn stale() -> FakeBackend {
    FakeBackend::new(|_, e, _| {
        let domain = &mut e.report.as_mut().unwrap().domain;
        domain.hazards.push(fake::stale_read(1, true));
    })
}

fn runs(a: &Path, b: &Path) -> Runs {
    match compare(a, b, None).unwrap() {
        Comparison::Runs(runs) => *runs,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_run_twice_differs_in_nothing() {
    let root = tempfile::tempdir().unwrap();
    let a = run(&root.path().join("a"), "base", &FakeBackend::good());
    let b = run(&root.path().join("b"), "base", &FakeBackend::good());
    let same = compare(&a, &b, None).unwrap();
    assert_eq!((same.exit_code(), same.differs()), (exit::PASS, false));
    let text = same.text(Layout::default());
    assert!(text.contains("the same from begin to end"), "{text}");
    assert!(text.ends_with("Nothing differs that counts.\n"), "{text}");
    // The log alone will do.
    let log = b.join(directory::LOG);
    assert!(!compare(&a, &log, None).unwrap().differs());
    // Or the result alone, of a run that has none; then nobody knows where logs part.
    fs::remove_file(log).unwrap();
    let old = runs(&a, &b);
    assert_eq!((old.differs, old.log), (false, None));
}

#[test]
fn findings_and_costs_stand_side_by_side() {
    let root = tempfile::tempdir().unwrap();
    let a = run(&root.path().join("a"), "base", &thrifty());
    let b = run(&root.path().join("b"), "begin-end-access", &stale());
    let comparison = compare(&a, &b, None).unwrap();
    assert_eq!(comparison.exit_code(), exit::FAIL);
    let text = comparison.text(Layout::default());
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    let root = root.path().display().to_string();
    insta::assert_snapshot!(text.replace(&root, "ROOT"));
    let narrow = comparison.text(Layout::of_columns(60));
    assert!(narrow.lines().all(|l| l.chars().count() <= 60), "{narrow}");

    let r = runs(&a, &b);
    let found = &r.findings[0];
    assert_eq!(found.kind, "missing-invalidate");
    assert_eq!((found.findings, found.lines.b), (Both { a: 0, b: 1 }, 189));
    assert!(found.place.starts_with("axi-dmac-rx -> "), "{found:?}");
    assert_eq!(r.costs.total.lines, Both { a: 567, b: 1134 });
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["compared"], "runs");
    assert_eq!(json["costs"]["total"]["lines"]["ratio"], 2.0);
}

#[test]
fn a_side_that_says_nothing_is_infrastructure() {
    let root = tempfile::tempdir().unwrap();
    let dead = FakeBackend::new(|_, e, _| e.report = None);
    let a = run(&root.path().join("a"), "base", &dead);
    let b = run(&root.path().join("b"), "base", &dead);
    let comparison = compare(&a, &b, None).unwrap();
    assert_eq!(comparison.exit_code(), exit::INFRA);
    comparison.text(Layout::default());
}

#[test]
fn what_is_no_run_or_damaged_is_told() {
    let root = tempfile::tempdir().unwrap();
    let a = run(&root.path().join("a"), "base", &FakeBackend::good());
    let b = run(&root.path().join("b"), "base", &FakeBackend::good());
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let usage = |a: &Path, b: &Path, by: Option<&By>| {
        let e = compare(a, b, by).unwrap_err();
        assert_eq!(e.exit_code(), exit::USAGE, "{e}");
        e.to_string()
    };
    usage(&a, &empty, None);
    usage(&root.path().join("nowhere"), &b, None);
    let by: By = "kernel".parse().unwrap();
    assert!(usage(&a, &b, Some(&by)).contains("matrices"));
    // Whatever a log holds, there is no panic; what is cut is compared as far as it goes.
    let log = b.join(directory::LOG);
    let whole = fs::read(&log).unwrap();
    for len in (0..whole.len()).step_by(whole.len() / 40) {
        fs::write(&log, &whole[..len]).unwrap();
        let _ = compare(&a, &b, None);
        let mut flipped = whole.clone();
        flipped[len] ^= 0x55;
        fs::write(&log, flipped).unwrap();
        let _ = compare(&a, &b, None);
    }
    fs::write(&log, "STALE").unwrap();
    usage(&a, &b, None);
    fs::remove_file(&log).unwrap();
    fs::write(b.join(directory::RESULT), "[[[[").unwrap();
    usage(&a, &b, None);
}

fn clean(operation: u32, pa: u64, lines: u64, found: Cached, site: u32) -> Event {
    Event::Maintained {
        cpu: CpuId::BOOT,
        op: CacheOp::Clean,
        operation,
        site: SiteId(site),
        chain: ChainId(0),
        pa,
        lines,
        found,
        dropped: false,
    }
}

fn irq(high: bool) -> Event {
    Event::Interrupt { irq: 3, high }
}

#[test]
fn logs_part_where_another_thing_happens_and_where_another_thing_is_done() {
    let root = tempfile::tempdir().unwrap();
    let log = |name: &str, events: &[(u64, Event)]| {
        let path = root.path().join(name);
        write_log(&path, &[r#"{"event":"step"}"#], events, 1 << 20).unwrap();
        path
    };
    let dirty = Cached::Dirty;
    let a = log(
        "a",
        &[
            (10, irq(true)),
            (20, clean(1, 0x4100_0000, 4, dirty, 1)),
            (30, irq(false)),
            (40, clean(2, 0x4200_0000, 4, dirty, 1)),
        ],
    );
    let same = divergence::find(&a, &a).unwrap();
    assert_eq!((same.first, same.done), (None, None));
    // Later, elsewhere and in two pieces, and then something else by another place.
    let b = log(
        "b",
        &[
            (10, irq(true)),
            (21, clean(1, 0x4300_0000, 1, dirty, 1)),
            (21, clean(1, 0x4300_0040, 3, Cached::No, 1)),
            (33, Event::Waited { ticks: 7 }),
            (34, irq(false)),
            (40, clean(2, 0x4200_0000, 4, dirty, 2)),
        ],
    );
    let found = divergence::find(&a, &b).unwrap();
    let first = found.first.unwrap();
    assert_eq!(first.alike, 1);
    let (told_a, told_b) = (first.a.unwrap(), first.b.unwrap());
    assert_eq!((told_a.at, told_b.at), (20, 21));
    assert_eq!(told_a.address.as_deref(), Some("0x41000000+256"));
    let done = found.done.unwrap();
    assert_eq!(done.alike, 3);
    assert_ne!(done.a.unwrap().place, done.b.unwrap().place);
    // Of the second operation fewer lines, which is known only once both are over; that interrupts differ then is
    // later.
    let fewer = log(
        "fewer",
        &[
            (10, irq(true)),
            (20, clean(1, 0x4100_0000, 4, dirty, 1)),
            (30, irq(false)),
            (40, clean(2, 0x4200_0000, 1, dirty, 1)),
            (40, clean(2, 0x4200_0040, 2, Cached::No, 1)),
            (50, irq(true)),
        ],
    );
    for (one, other, ends) in [(&a, &fewer, (4, 3)), (&fewer, &a, (3, 4))] {
        let done = divergence::find(one, other).unwrap().done.unwrap();
        let lines = |told: Option<Told>| told.unwrap().address;
        assert_eq!(done.alike, 3);
        assert_eq!(lines(done.a), Some(format!("0x42000000+{}", 64 * ends.0)));
        assert_eq!(lines(done.b), Some(format!("0x42000000+{}", 64 * ends.1)));
    }
    // Transfers of two devices at a time are two, however they take turns, and count once they are over.
    let transfers = |name: &str, pieces: &[(u32, u64)], closed: bool| {
        let moved = |&(transfer, len): &(u32, u64)| Event::Moved {
            master: MasterId(0),
            transfer: TransferId(transfer),
            snoops: false,
            write: true,
            content: Content::Data,
            pa: 0x4300_0000,
            len,
        };
        let mut events: Vec<(u64, Event)> = pieces.iter().map(|p| (10, moved(p))).collect();
        let close = [1, 2].map(|transfer| Event::Closed {
            transfer: TransferId(transfer),
            master: MasterId(0),
            bytes: 0,
        });
        events.extend(
            close
                .map(|event| (20, event))
                .into_iter()
                .filter(|_| closed),
        );
        log(name, &events)
    };
    let turns = transfers("turns", &[(1, 8), (2, 64), (1, 8), (1, 48)], true);
    let whole = transfers("whole", &[(1, 64), (2, 64)], true);
    assert_eq!(divergence::find(&turns, &whole).unwrap().done, None);
    let less = transfers("less", &[(1, 64), (2, 64), (1, 64)], true);
    let done = divergence::find(&turns, &less).unwrap().done.unwrap();
    assert_eq!(done.alike, 0);
    assert_eq!(done.b.unwrap().address.as_deref(), Some("0x43000000+128"));
    let open = transfers("open", &[(1, 64), (2, 64)], false);
    let open_less = transfers("open-less", &[(1, 8), (2, 64)], false);
    assert_eq!(divergence::find(&open, &open_less).unwrap().done, None);

    // The one is over before the other.
    let short = log("short", &[(10, irq(true))]);
    let done = divergence::find(&a, &short).unwrap().done.unwrap();
    assert_eq!((done.alike, done.b), (1, None));
    // And a log that was cut goes as far as it goes.
    let bytes = fs::read(&a).unwrap();
    fs::write(&short, &bytes[..bytes.len() - 3]).unwrap();
    let lacks = divergence::find(&a, &short).unwrap().lacks;
    assert!(lacks[0].starts_with("the log of B has no end"), "{lacks:?}");
}

const MATRIX: &str = r#"
schema = 1
[[group]]
scenarios = ["iio-capture"]
kernels = ["base", "begin-end-access"]
exporters = ["system", "cma"]
expect = "any"
"#;

/// begin-end-access invalidates half as much, and the CMA heap has a finding.
fn matrix(dir: &Path, text: &str, kernel: &'static str) {
    let cells = Matrix::parse(text, "test").unwrap();
    let cells = cells.cells(EngineKind::default(), None).unwrap();
    let origin = Origin {
        asked: Asked::Matrix(None),
        engine: EngineKind::default(),
        append: None,
        partition: None,
        extent: Extent::default(),
    };
    let cells = Cells {
        here: cells,
        rows: Vec::new(),
        all: String::new(),
    };
    let begun = record::begin(origin, cells, "fake".into(), (dir, false)).unwrap();
    let backend = FakeBackend::new(move |a, e, _| {
        let domain = &mut e.report.as_mut().unwrap().domain;
        if a.spec.kernel.0 == kernel {
            domain.maintenance.operations.truncate(3);
        }
    });
    let manner = runner::Manner {
        jobs: 1,
        trace: false,
    };
    runner::run(&begun, manner, &backend, &Quiet).unwrap();
}

fn matrices(a: &Path, b: &Path, by: &str) -> Result<Matrices, Error> {
    let by = (!by.is_empty()).then(|| by.parse().unwrap());
    match compare(a, b, by.as_ref())? {
        Comparison::Matrices(matrices) => Ok(matrices),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cells_pair_by_name_or_by_all_but_one_thing() {
    let root = tempfile::tempdir().unwrap();
    let dir = |name: &str| root.path().join(name);
    let (a, b, less) = (dir("a"), dir("b"), dir("less"));
    matrix(&a, MATRIX, "begin-end-access");
    matrix(&b, MATRIX, "none");
    matrix(&less, &MATRIX.replace(r#", "cma""#, ""), "none");

    let same = matrices(&a, &a, "").unwrap();
    assert_eq!((same.differs, same.cells.len()), (false, 4));
    let other = matrices(&a, &b, "").unwrap();
    let differ: Vec<bool> = other.cells.iter().map(|c| c.differs).collect();
    assert_eq!(differ, [false, false, true, true]);
    let missing = matrices(&a, &less, "").unwrap();
    assert_eq!((missing.differs, missing.only_a.len()), (true, 2));
    assert_eq!(matrices(&less, &a, "").unwrap().only_b.len(), 2);

    // One matrix with itself: one kernel against the other.
    let by = "kernel=base,begin-end-access";
    let kernels = matrices(&a, &a, by).unwrap();
    assert_eq!(kernels.cells.len(), 2);
    assert_eq!(kernels.cells[0].cell, "iio-capture system zynqmp s1 -");
    let lines = kernels.cells[0].lines.lines;
    assert_eq!(lines, Both { a: 1134, b: 567 });
    let text = Comparison::Matrices(kernels).text(Layout::default());
    let sum = "2 cells in both: the verdict is the same in 2; B maintains fewer lines in 2";
    assert!(text.contains(sum), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");

    // Without values, there is more than one cell of each.
    for by in ["kernel", "kernel=base,x", "seed=1,2"] {
        let e = matrices(&a, &a, by).unwrap_err();
        assert_eq!(e.exit_code(), exit::USAGE, "{by}: {e}");
    }
}

#[test]
fn cells_that_say_nothing_and_files_that_are_damaged_are_told() {
    let root = tempfile::tempdir().unwrap();
    let dir = |name: &str| root.path().join(name);
    let (a, b) = (dir("a"), dir("b"));
    matrix(&a, MATRIX, "none");
    matrix(&b, MATRIX, "none");
    let cells = b.join(CELLS);
    let text = fs::read_to_string(&cells).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();

    // The matrix was stopped: it broke off in a line.
    fs::write(&cells, &text[..first.len() / 2]).unwrap();
    let cut = compare(&a, &b, None).unwrap();
    assert_eq!(cut.exit_code(), exit::INFRA);
    assert!(cut.text(Layout::default()).contains("without a verdict"));
    // It went on behind that.
    fs::write(&cells, format!("{}\n{text}", &first[..first.len() / 2])).unwrap();
    assert_eq!(compare(&a, &b, None).unwrap().exit_code(), exit::PASS);
    // A cell without a verdict is none that could be compared.
    let infra = first.replace(r#""pass""#, r#""infra-error""#);
    fs::write(&cells, format!("{infra}\n{rest}")).unwrap();
    assert_eq!(compare(&a, &b, None).unwrap().exit_code(), exit::INFRA);

    let usage = |what: &str| {
        let e = compare(&a, &b, None).unwrap_err();
        assert_eq!(e.exit_code(), exit::USAGE, "{e}");
        assert!(e.to_string().contains(what), "{e}");
    };
    fs::write(&cells, format!("{{}}\n{rest}")).unwrap();
    usage("line 1 of cells.jsonl is damaged");
    fs::remove_file(&cells).unwrap();
    usage("cells.jsonl");
    fs::write(b.join(record::FILE), "{").unwrap();
    usage("not valid");
    fs::remove_file(b.join(record::FILE)).unwrap();
    usage("matrices with matrices");
}
