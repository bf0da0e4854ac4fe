// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use staleline_support::progress::{Counted, Quiet};

use super::partition::Partition;
use super::record::{Asked, Cells};
use super::report::Report;
use super::runner::{CellResult, Ran};
use super::*;
use crate::exit::{self, FAIL, INFRA, PASS};
use crate::run::fake::{self, FakeBackend};
use staleline_results::GuestEnd;

const TWO_GROUPS: &str = r#"
schema = 1
[[group]]
scenarios = ["boot", "iio-capture"]
caches = ["lazy", "eager"]
exporters = ["system", "cma"]
[[group]]
scenarios = ["iio-capture-nosync"]
seeds = [1, 2]
expect = "fail"
hazards = ["missing-invalidate"]
"#;

/// A matrix that was run, with its files.
struct Done {
    out: tempfile::TempDir,
    results: Vec<CellResult>,
}

impl std::ops::Deref for Done {
    type Target = [CellResult];

    fn deref(&self) -> &[CellResult] {
        &self.results
    }
}

impl Done {
    fn report(&self) -> Report<'_> {
        Report {
            about: "",
            rows: &[],
            out: self.out.path(),
            results: &self.results,
            left: &[],
        }
    }
}

fn run(text: &str, backend: &FakeBackend, jobs: usize) -> Done {
    let cells = Matrix::parse(text, "test")
        .unwrap()
        .cells(EngineKind::default(), None)
        .unwrap();
    let out = tempfile::tempdir().unwrap();
    let cells = Cells {
        here: cells,
        all: String::new(),
        rows: Vec::new(),
    };
    let begun = begin(cells, out.path(), false).unwrap();
    let ran = runner::run(&begun, with(jobs), backend, &Quiet).unwrap();
    assert_eq!(ran.left, [""; 0]);
    Done {
        out,
        results: ran.results,
    }
}

fn begin(cells: Cells, out: &Path, force: bool) -> Result<record::Begun, Error> {
    record::begin(origin(None), cells, "fake".into(), (out, force))
}

fn resolve(origin: &record::Origin) -> Result<Cells, Error> {
    let Asked::Matrix(file) = &origin.asked else {
        panic!("{origin:?}");
    };
    let all = Matrix::load(file.as_deref())?.cells(origin.engine, origin.append.as_deref())?;
    Cells::of(all, Vec::new(), origin.partition)
}

fn resume(out: &Path, program: &str) -> Result<record::Begun, Error> {
    record::resume(out, &Asked::Matrix(None), program, &resolve)
}

fn with(jobs: usize) -> runner::Manner {
    runner::Manner { jobs, trace: false }
}

fn origin(file: Option<&Path>) -> record::Origin {
    record::Origin {
        asked: Asked::Matrix(file.map(Path::to_owned)),
        engine: EngineKind::default(),
        append: None,
        partition: None,
        extent: Extent::default(),
    }
}

fn names(text: &str) -> Vec<String> {
    let cells = Matrix::parse(text, "t")
        .unwrap()
        .cells(EngineKind::default(), None);
    cells.unwrap().into_iter().map(|c| c.name).collect()
}

/// Scenarios without SYNC have a finding.
fn plausible() -> FakeBackend {
    FakeBackend::new(|a, e, _| {
        if a.spec.scenario.name.ends_with("nosync") {
            let domain = &mut e.report.as_mut().unwrap().domain;
            domain.hazards.push(fake::stale_read(1, true));
        }
    })
}

#[test]
fn cells_are_the_product() {
    assert_eq!(
        names(TWO_GROUPS),
        [
            // No data, no exporters.
            "boot.base.lazy.s1",
            "boot.base.eager.s1",
            "iio-capture.base.system.lazy.s1",
            "iio-capture.base.system.eager.s1",
            "iio-capture.base.cma.lazy.s1",
            "iio-capture.base.cma.eager.s1",
            "iio-capture-nosync.base.system.zynqmp.s1",
            "iio-capture-nosync.base.system.zynqmp.s2",
        ]
    );
}

#[test]
fn names_are_unique() {
    let text = "schema = 1\n[[group]]\nscenarios = [\"boot\"]\n[[group]]\nscenarios = [\"boot\"]\n";
    assert_eq!(names(text)[1], "boot.base.zynqmp.s1.2");
}

#[test]
fn no_name_leads_elsewhere() {
    let text = "schema = 1\n[[group]]\nscenarios = [\"boot\"]\n\
                kernels = [\"..\", \"../mx\", \"../mx/..\", \".\"]\nset = [\"ram-mib=64\"]\n";
    let names = names(text);
    let end = "zynqmp.s1.ram-mib=64";
    let kernels = ["kernel", "mx", "kernel", "kernel"];
    let suffixes = ["", "", ".2", ".3"];
    let expected = kernels.iter().zip(suffixes);
    let expected: Vec<_> = expected
        .map(|(kernel, n)| format!("boot.{kernel}.{end}{n}"))
        .collect();
    assert_eq!(names, expected);
    assert!(names.iter().all(|name| record::is_name(name)));
}

#[test]
fn settings_tell_cells_apart() {
    let text = r#"
        schema = 1
        [[group]]
        scenarios = ["iio-capture"]
        set = ["snoop-write=allocate", "board.dmac.port=hpc"]
        [[group]]
        scenarios = ["iio-to-usb"]
        set = ['usb.incidents=[{after-bytes=1,action="halt"}]']
        expect = "any"
        [[group]]
        scenarios = ["boot"]
    "#;
    assert_eq!(
        names(text),
        [
            "iio-capture.base.system.zynqmp.s1.snoop-write=allocate.board_dmac_port=hpc",
            "iio-to-usb.base.system.zynqmp.s1.usb_incidents=__after-bytes=1_action=_ha.8ff665bd",
            "boot.base.zynqmp.s1",
        ]
    );
    let table = report::table(&run(text, &FakeBackend::good(), 1));
    let column = |line: &str| line.find("snoop-write=allocate board.dmac.port=hpc");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(column(lines[1]), lines[0].find(" set ").map(|at| at + 1));
    assert!(lines[3].contains(" -  "), "{table}");
}

#[test]
fn what_is_expected_is_a_success() {
    for jobs in [1, 3, 100] {
        let results = run(TWO_GROUPS, &plausible(), jobs);
        assert_eq!(results.len(), 8);
        assert_eq!(report::exit_code(&results, 1), PASS);
        insta::allow_duplicates! {
            insta::assert_snapshot!("expected_table", report::table(&results));
        }
    }
}

#[test]
fn what_is_not_expected_is_a_failure() {
    // Nothing found where something should be.
    let results = run(TWO_GROUPS, &FakeBackend::good(), 2);
    assert_eq!(report::exit_code(&results, 1), FAIL);
    let mut ktap = Vec::new();
    results.report().write_ktap(&mut ktap).unwrap();
    insta::assert_snapshot!("unexpected_ktap", String::from_utf8(ktap).unwrap());
    let mut junit = Vec::new();
    results.report().write_junit(&mut junit).unwrap();
    let junit = String::from_utf8(junit).unwrap();
    assert!(
        junit.contains("tests=\"8\"") && junit.contains("failures=\"2\""),
        "{junit}"
    );
    let mut json = Vec::new();
    results.report().write_json(&mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json[7]["result"]["verdict"], "pass");
}

#[test]
fn the_wrong_hazard_is_not_what_was_expected() {
    let text = TWO_GROUPS.replace("missing-invalidate", "missing-clean");
    let results = run(&text, &plausible(), 2);
    assert_eq!(report::exit_code(&results, 1), FAIL);
    assert!(results[7].unexpected().unwrap().contains("missing-clean"));
}

#[test]
fn a_crash_is_not_the_hazard_that_was_expected() {
    let backend = FakeBackend::new(|a, e, text| {
        if a.spec.scenario.name.ends_with("nosync") {
            let domain = &mut e.report.as_mut().unwrap().domain;
            domain.hazards.push(fake::stale_read(1, true));
            text.push_str("[    1.5] BUG: Bad page state in process agent\n");
        }
    });
    let results = run(TWO_GROUPS, &backend, 2);
    assert_eq!(report::exit_code(&results, 1), FAIL);
    let why = results[7].unexpected().unwrap();
    assert!(why.contains("kernel-report: BUG: Bad page state"), "{why}");
    let table = report::table(&results);
    assert!(
        table.contains("kernel-report missing-invalidate"),
        "{table}"
    );
    // Who expects no more than a failure has got one.
    let text = TWO_GROUPS.replace("hazards = [\"missing-invalidate\"]", "");
    assert_eq!(report::exit_code(&run(&text, &backend, 2), 1), PASS);
}

#[test]
fn infrastructure_errors_are_never_expected() {
    for expect in ["pass", "fail", "any"] {
        let text = format!("schema = 1\n[[group]]\nscenarios = [\"boot\"]\nexpect = \"{expect}\"");
        let results = run(
            &text,
            &FakeBackend::new(|_, e, _| e.end = GuestEnd::TimedOut),
            1,
        );
        assert_eq!(report::exit_code(&results, 1), INFRA);
        let results = run(
            &text,
            &FakeBackend::without_kernel(|| Error::Kernel("x".into())),
            1,
        );
        assert_eq!(report::exit_code(&results, 1), INFRA);
    }
    assert_eq!(report::exit_code(&[], 1), INFRA);
    // A share of a matrix may have no cells.
    assert_eq!(report::exit_code(&[], 0), PASS);
}

#[test]
fn a_survey_takes_both() {
    let text = "schema = 1\n[[group]]\nscenarios = [\"iio-capture\", \"iio-capture-nosync\"]\n\
                expect = \"any\"";
    assert_eq!(report::exit_code(&run(text, &plausible(), 2), 1), PASS);
}

#[test]
fn wrong_matrices_are_told() {
    let group = "schema = 1\n[[group]]\n";
    for (text, expect) in [
        ("schema = 1\ngroup = []".to_owned(), "no cells"),
        (format!("{group}scenarios = []"), "no cells"),
        (
            format!("{group}scenarios = [\"boot\"]\nhazards = [\"ownership\"]"),
            "expect",
        ),
        (
            format!("{group}scenarios = [\"boot\"]\ncashes = []"),
            "line 4, column 1",
        ),
        (
            format!(
                "{group}scenarios = [\"boot\"]\nseeds = {:?}",
                (0..10_001).collect::<Vec<_>>()
            ),
            "10001 cells",
        ),
    ] {
        let e = Matrix::parse(&text, "m.toml").unwrap_err().render();
        assert!(e.contains(expect), "{e}");
    }
    let unknown = Matrix::parse(&format!("{group}scenarios = [\"bot\"]"), "m").unwrap();
    assert!(matches!(
        unknown.cells(EngineKind::default(), None),
        Err(Error::UnknownScenario { .. })
    ));
}

#[test]
fn example_matrices_are_valid() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/matrix")).unwrap() {
        let matrix = Matrix::load(Some(&entry.unwrap().path())).unwrap();
        assert!(
            !matrix
                .cells(EngineKind::default(), None)
                .unwrap()
                .is_empty()
        );
    }
}

#[test]
fn files_are_named_from_where_the_matrix_is() {
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("sub");
    std::fs::create_dir(&sub).unwrap();
    let of = |name: &str| format!("schema = 1\nname = \"{name}\"\ndescription = \"d\"\n");
    std::fs::write(sub.join("a.toml"), of("near")).unwrap();
    std::fs::write(dir.path().join("b.toml"), of("above")).unwrap();
    let matrix = r#"
schema = 1
[[group]]
scenarios = ["a.toml", "../b.toml", "boot"]
kernels = ["base", "./Image"]
seeds = ["18446744073709551615"]
set = ["guest.exec=[\"prog\"]"]
"#;
    let file = sub.join("m.toml");
    std::fs::write(&file, matrix).unwrap();
    let cells = resolve(&origin(Some(&file))).unwrap().here;
    let scenarios: Vec<_> = cells.iter().map(|c| &*c.spec.scenario.name).collect();
    assert_eq!(
        scenarios,
        ["near", "near", "above", "above", "boot", "boot"]
    );
    for cell in &cells {
        assert_eq!(cell.spec.scenario.seed, u64::MAX);
        let exec = &cell.spec.scenario.guest.exec[0];
        assert_eq!(Path::new(exec), sub.join("prog"));
        if let Some(path) = cell.spec.kernel.path() {
            assert_eq!(path, sub.join("./Image"));
        }
    }
}

/// Says that the user wants no more, after so many cells.
struct After(usize, std::sync::atomic::AtomicUsize);

impl staleline_support::progress::Progress for After {
    fn begin(&self, what: &str, _: Counted) {
        let done = usize::from(what.contains(": "));
        self.1.fetch_add(done, std::sync::atomic::Ordering::Relaxed);
    }
    fn advance(&self, _: &str) {}
    fn detail(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        self.1.load(std::sync::atomic::Ordering::Relaxed) >= self.0
    }
}

/// A matrix of four cells in a file, of which two are done.
fn half_done(root: &Path) -> (PathBuf, PathBuf) {
    let (file, out) = (root.join("m.toml"), root.join("out"));
    let text = "schema = 1\n[[group]]\nscenarios = [\"boot\"]\nseeds = [1, 2, 3, 4]\n";
    std::fs::write(&file, text).unwrap();
    let from = origin(Some(&file));
    let cells = resolve(&from).unwrap();
    let begun = record::begin(from, cells, "fake".into(), (&out, false)).unwrap();
    let enough = After(2, 0.into());
    let outcome = runner::run(&begun, with(1), &FakeBackend::good(), &enough).unwrap();
    assert_eq!((outcome.results.len(), outcome.left.len()), (2, 2));
    (file, out)
}

#[test]
fn a_matrix_goes_on_with_what_is_left() {
    let root = tempfile::tempdir().unwrap();
    let (file, out) = half_done(root.path());
    let refused = |program: &str| match resume(&out, program) {
        Err(e @ Error::CannotResume { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused("other").contains("staleline or its plugin"));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("4]", "5]")).unwrap();
    assert!(refused("fake").contains("cell boot.base.zynqmp.s5"));
    std::fs::write(&file, text.replace(", 4]", "]")).unwrap();
    assert!(refused("fake").contains("has 3 cells now, it had 4"));
    std::fs::write(&file, &text).unwrap();

    let begun = resume(&out, "fake").unwrap();
    assert_eq!(begun.done.len(), 2);
    let busy = resume(&out, "fake");
    assert!(matches!(busy, Err(Error::OutputBusy { .. })), "{busy:?}");
    let backend = FakeBackend::good();
    let outcome = runner::run(&begun, with(1), &backend, &Quiet).unwrap();
    assert_eq!((outcome.results.len(), outcome.left.len()), (4, 0));
    assert_eq!(backend.attempts.lock().unwrap().len(), 2);
    let names: Vec<_> = outcome.results.iter().map(|r| &*r.cell.name).collect();
    assert!(
        names.is_sorted() && names[0] == "boot.base.zynqmp.s1",
        "{names:?}"
    );
}

#[test]
fn not_with_another_kernel() {
    let root = tempfile::tempdir().unwrap();
    let (_, out) = half_done(root.path());
    let path = out.join(record::CELLS);
    let text = std::fs::read_to_string(&path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let mut outcome: outcome::Outcome = serde_json::from_str(first).unwrap();
    outcome.guest.kernel = Some("other".into());
    let first = serde_json::to_string(&outcome).unwrap();
    std::fs::write(&path, format!("{first}\n{rest}")).unwrap();
    let begun = resume(&out, "fake").unwrap();
    let e = runner::run(&begun, with(1), &FakeBackend::good(), &Quiet).unwrap_err();
    assert!(
        e.to_string()
            .contains("the kernel of cell boot.base.zynqmp.s1"),
        "{e}"
    );
}

#[test]
fn an_earlier_matrix_is_replaced_if_that_is_meant() {
    let root = tempfile::tempdir().unwrap();
    let (file, out) = half_done(root.path());
    let cells = || resolve(&origin(Some(&file)));
    let refused = begin(cells().unwrap(), &out, false);
    assert!(matches!(refused, Err(Error::OutputExists { .. })));
    // What is not ours keeps it from being a matrix's.
    std::fs::write(out.join("notes"), "x").unwrap();
    let refused = begin(cells().unwrap(), &out, true);
    assert!(matches!(refused, Err(Error::OutputTaken { .. })));
    std::fs::remove_file(out.join("notes")).unwrap();
    let begun = begin(cells().unwrap(), &out, true).unwrap();
    assert!(begun.done.is_empty());
    assert!(!out.join("boot.base.zynqmp.s1").exists());
}

#[test]
fn what_broke_off_in_the_middle_of_a_line_is_done_again() {
    let root = tempfile::tempdir().unwrap();
    let (_, out) = half_done(root.path());
    let path = out.join(record::CELLS);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 9]).unwrap();
    let begun = resume(&out, "fake").unwrap();
    assert_eq!(begun.done.len(), 1);
    let ran = runner::run(&begun, with(2), &FakeBackend::good(), &Quiet).unwrap();
    assert_eq!(ran.results.len(), 4);
    drop(begun);
    assert_eq!(record::read_outcomes(&out).unwrap().len(), 4);
}

#[test]
fn a_run_that_says_nothing_is_done_once_more_and_that_is_told() {
    let text = "schema = 1\n[[group]]\nscenarios = [\"boot\"]\nseeds = [1, 2, 3]";
    // Only the first run on the machine.
    let first = std::sync::atomic::AtomicBool::new(true);
    let backend = FakeBackend::new(move |_, e, _| {
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            e.end = GuestEnd::TimedOut;
        }
    });
    let done = run(text, &backend, 1);
    assert_eq!(report::exit_code(&done, 1), PASS);
    let table = report::table(&done);
    assert!(
        table.contains("its first attempt said nothing: "),
        "{table}"
    );
    assert!(
        table.ends_with("3 cells, 3 as expected, 0 not; 1 at the second attempt\n"),
        "{table}"
    );
    let mut junit = Vec::new();
    done.report().write_junit(&mut junit).unwrap();
    let junit = String::from_utf8(junit).unwrap();
    assert!(junit.contains("The first attempt said nothing"), "{junit}");
    assert_eq!(backend.attempts.lock().unwrap().len(), 4);
}

#[test]
fn what_is_known_to_be_bad_fails_only_if_it_gets_worse() {
    let expects_too_much =
        TWO_GROUPS.replace("expect = \"fail\"\nhazards = [\"missing-invalidate\"]", "");
    let mut done = run(&expects_too_much, &plausible(), 2);
    assert_eq!(report::exit_code(&done, 1), FAIL);
    let file = done.out.path().join("known.toml");
    let of_now = baseline::Baseline::of(&done);
    of_now.write(&file).unwrap();
    let known = baseline::Baseline::load(&file).unwrap();
    assert_eq!(known, of_now);
    assert_eq!(known.apply(&mut done.results), [""; 0]);
    assert_eq!(report::exit_code(&done, 1), PASS);
    let table = report::table(&done);
    assert!(table.contains("fail (known)"), "{table}");
    assert!(
        table.ends_with("8 cells, 6 as expected, 0 not, 2 not, which is known\n"),
        "{table}"
    );
    // It has become better.
    let mut better = run(&expects_too_much, &FakeBackend::good(), 2);
    let names = known.apply(&mut better.results);
    assert_eq!(names.len(), 2, "{names:?}");
    // And worse.
    let backend = FakeBackend::new(|a, e, text| {
        if a.spec.scenario.name.ends_with("nosync") {
            let domain = &mut e.report.as_mut().unwrap().domain;
            domain.hazards.push(fake::stale_read(1, true));
            text.push_str("[    1.5] BUG: Bad page state in process agent\n");
        }
    });
    let mut worse = run(&expects_too_much, &backend, 2);
    known.apply(&mut worse.results);
    assert_eq!(report::exit_code(&worse, 1), FAIL);
    // It is the same in the wrong place, on more lines, with wrong bytes, or more of them.
    let worse = |change: &dyn Fn(&mut outcome::Outcome)| {
        let mut worse = run(&expects_too_much, &plausible(), 2);
        worse
            .results
            .iter_mut()
            .for_each(|r| change(&mut r.outcome));
        known.apply(&mut worse.results);
        report::exit_code(&worse, 1)
    };
    let found = |change: &'static dyn Fn(&mut outcome::Found)| {
        move |outcome: &mut outcome::Outcome| outcome.found.iter_mut().for_each(change)
    };
    assert_eq!(worse(&|_| {}), PASS);
    assert_eq!(worse(&found(&|f| f.lines -= 1)), PASS);
    assert_eq!(worse(&found(&|f| f.lines += 1)), FAIL);
    assert_eq!(worse(&found(&|f| f.place.push('2'))), FAIL);
    assert_eq!(worse(&found(&|f| f.missing.push('2'))), FAIL);
    assert_eq!(worse(&|o| o.corrupt_bytes += 1), FAIL);
    assert_eq!(worse(&|o| o.found.clear()), FAIL);
    // What it knows and what is not there is told.
    let cells: Vec<String> = done.iter().map(|r| r.outcome.cell.clone()).collect();
    assert_eq!(known.strangers(&cells), [""; 0]);
    assert_eq!(known.strangers(&cells[..6]).len(), 2);
    let cell = "[[known]]\ncell = \"a\"\nverdict = \"fail\"\ncorrupt-bytes = 0\n";
    let finding = "[[known.findings]]\nkind = \"missing-clear\"\nplace = \"\"\nlines = 1\nmanifested = false\n";
    for (text, why) in [
        (
            format!("schema = 2\n{}", cell.replace("fail", "infra-error")),
            "no result that could be known",
        ),
        (
            format!("schema = 2\n{cell}{finding}"),
            "there is no finding `missing-clear`",
        ),
        (
            "schema = 1\n[[known]]\ncell = \"a\"\nverdict = \"fail\"\nfindings = [\"x\"]\n".into(),
            "write the baseline anew",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let e = baseline::Baseline::load(&file).unwrap_err();
        assert_eq!(e.exit_code(), exit::USAGE);
        assert!(e.render().contains(why), "{}", e.render());
    }
}

/// Runs a share of the cells of a file.
fn share(file: &Path, share: &str, out: &Path, backend: &FakeBackend) -> Ran {
    let partition: Partition = share.parse().unwrap();
    let from = record::Origin {
        partition: Some(partition),
        ..origin(Some(file))
    };
    let cells = resolve(&from).unwrap();
    let begun = record::begin(from, cells, "fake".into(), (out, false)).unwrap();
    runner::run(&begun, with(2), backend, &Quiet).unwrap()
}

#[test]
fn shares_put_together_are_the_whole() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("m.toml");
    std::fs::write(&file, TWO_GROUPS).unwrap();
    let whole = report::table(&run(TWO_GROUPS, &plausible(), 2));
    let dirs: Vec<PathBuf> = (1..=3).map(|n| root.path().join(n.to_string())).collect();
    let mut cells = 0;
    for (n, dir) in dirs.iter().enumerate() {
        let ran = share(&file, &format!("hash:{}/3", n + 1), dir, &plausible());
        cells += ran.results.len();
    }
    assert_eq!(cells, 8);
    let merge = |parts: &[PathBuf], name: &str| {
        merge::merge(parts, (&root.path().join(name), false), &resolve)
    };
    let (begun, ran) = merge(&dirs, "all").unwrap();
    assert_eq!(ran.left, [""; 0]);
    assert_eq!(report::table(&ran.results), whole);
    // It is a matrix as any other.
    drop(begun);
    let begun = resume(&root.path().join("all"), "fake").unwrap();
    let backend = FakeBackend::good();
    let again = runner::run(&begun, with(1), &backend, &Quiet).unwrap();
    assert_eq!(report::table(&again.results), whole);
    assert!(backend.attempts.lock().unwrap().is_empty());
}

#[test]
fn what_nobody_has_run_is_told_before_what_has_failed() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("m.toml");
    std::fs::write(&file, TWO_GROUPS).unwrap();
    let dirs: Vec<PathBuf> = (1..=2).map(|n| root.path().join(n.to_string())).collect();
    let bad = || {
        FakeBackend::new(|_, e, _| {
            let domain = &mut e.report.as_mut().unwrap().domain;
            domain.hazards.push(fake::stale_read(1, true));
        })
    };
    for (n, dir) in dirs.iter().enumerate() {
        share(&file, &format!("hash:{}/2", n + 1), dir, &bad());
    }
    let merged = |parts: &[PathBuf], name: &str| {
        let (begun, ran) = merge::merge(parts, (&root.path().join(name), false), &resolve).unwrap();
        assert!(ran.results.iter().any(|r| r.unexpected().is_some()));
        report::exit_code(&ran.results, begun.cells.len())
    };
    assert_eq!(merged(&dirs, "all"), FAIL);
    assert_eq!(merged(&dirs[..1], "some"), INFRA);
}

#[test]
fn what_does_not_belong_together_is_not_put_together() {
    let root = tempfile::tempdir().unwrap();
    let (file, other) = (root.path().join("m.toml"), root.path().join("n.toml"));
    std::fs::write(&file, TWO_GROUPS).unwrap();
    std::fs::write(&other, TWO_GROUPS.replace("[1, 2]", "[1, 3]")).unwrap();
    let dir = |name: &str| root.path().join(name);
    share(&file, "hash:1/2", &dir("a"), &plausible());
    share(&other, "hash:2/2", &dir("b"), &plausible());
    share(&file, "hash:1/2", &dir("c"), &plausible());
    let merge = |parts: &[PathBuf]| merge::merge(parts, (&dir("all"), false), &resolve);
    let refused = |parts: &[PathBuf]| match merge(parts) {
        Err(e @ Error::CannotMerge { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    let e = refused(&[dir("a"), dir("b")]);
    assert!(e.contains("is of another matrix"), "{e}");
    let e = refused(&[dir("a"), dir("c")]);
    assert!(e.contains("has cell boot."), "{e}");
    assert!(matches!(
        merge(&[dir("a"), dir("none")]),
        Err(Error::NotARun { .. })
    ));
    // A share alone leaves the others' cells.
    let (begun, ran) = merge(&[dir("a")]).unwrap();
    assert!(!ran.left.is_empty() && !ran.results.is_empty());
    assert_eq!(ran.left.len() + ran.results.len(), 8);
    assert_eq!(report::exit_code(&ran.results, begun.cells.len()), INFRA);
}
