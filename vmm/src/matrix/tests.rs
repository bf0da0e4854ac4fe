// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use staleline_support::progress::{Counted, Quiet};

use super::runner::CellResult;
use super::*;
use crate::exit::{FAIL, INFRA, PASS};
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

fn run(text: &str, backend: &FakeBackend, jobs: usize) -> Vec<CellResult> {
    let cells = Matrix::parse(text, "test")
        .unwrap()
        .cells(EngineKind::default(), None)
        .unwrap();
    let out = tempfile::tempdir().unwrap();
    let begun = begin(cells, out.path(), false).unwrap();
    let outcome = runner::run(&begun, jobs, backend, &Quiet).unwrap();
    assert_eq!(outcome.left, [""; 0]);
    outcome.results
}

fn begin(cells: Vec<Cell>, out: &Path, force: bool) -> Result<record::Begun, Error> {
    record::begin(origin(None), cells, "fake".into(), (out, force))
}

fn origin(file: Option<&Path>) -> record::Origin {
    record::Origin {
        file: file.map(Path::to_owned),
        engine: EngineKind::default(),
        append: None,
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
    let text = "schema = 1\n[[group]]\nscenarios = [\"boot\", \"boot\"]\n";
    assert_eq!(names(text)[1], "boot.base.zynqmp.s1.2");
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
            "iio-to-usb.base.system.zynqmp.s1.usb_incidents=__after-bytes=1_action=_ha",
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
        assert_eq!(report::exit_code(&results), PASS);
        insta::allow_duplicates! {
            insta::assert_snapshot!("expected_table", report::table(&results));
        }
    }
}

#[test]
fn what_is_not_expected_is_a_failure() {
    // Nothing found where something should be.
    let results = run(TWO_GROUPS, &FakeBackend::good(), 2);
    assert_eq!(report::exit_code(&results), FAIL);
    let mut ktap = Vec::new();
    report::write_ktap(&mut ktap, &results).unwrap();
    insta::assert_snapshot!("unexpected_ktap", String::from_utf8(ktap).unwrap());
    let mut junit = Vec::new();
    report::write_junit(&mut junit, &results, &[]).unwrap();
    let junit = String::from_utf8(junit).unwrap();
    assert!(
        junit.contains("tests=\"8\"") && junit.contains("failures=\"2\""),
        "{junit}"
    );
    let mut json = Vec::new();
    report::write_json(&mut json, &results).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json[7]["result"]["verdict"], "pass");
}

#[test]
fn the_wrong_hazard_is_not_what_was_expected() {
    let text = TWO_GROUPS.replace("missing-invalidate", "missing-clean");
    let results = run(&text, &plausible(), 2);
    assert_eq!(report::exit_code(&results), FAIL);
    assert!(
        results[7]
            .unexpected
            .as_ref()
            .unwrap()
            .contains("missing-clean")
    );
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
    assert_eq!(report::exit_code(&results), FAIL);
    let why = results[7].unexpected.as_ref().unwrap();
    assert!(why.contains("kernel-report: BUG: Bad page state"), "{why}");
    let table = report::table(&results);
    assert!(
        table.contains("kernel-report missing-invalidate"),
        "{table}"
    );
    // Who expects no more than a failure has got one.
    let text = TWO_GROUPS.replace("hazards = [\"missing-invalidate\"]", "");
    assert_eq!(report::exit_code(&run(&text, &backend, 2)), PASS);
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
        assert_eq!(report::exit_code(&results), INFRA);
        let results = run(
            &text,
            &FakeBackend::without_kernel(|| Error::Kernel("x".into())),
            1,
        );
        assert_eq!(report::exit_code(&results), INFRA);
    }
    assert_eq!(report::exit_code(&[]), INFRA);
}

#[test]
fn a_survey_takes_both() {
    let text = "schema = 1\n[[group]]\nscenarios = [\"iio-capture\", \"iio-capture-nosync\"]\n\
                expect = \"any\"";
    assert_eq!(report::exit_code(&run(text, &plausible(), 2)), PASS);
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
    let cells = origin(Some(&file)).cells().unwrap();
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
    let cells = from.cells().unwrap();
    let begun = record::begin(from, cells, "fake".into(), (&out, false)).unwrap();
    let enough = After(2, 0.into());
    let outcome = runner::run(&begun, 1, &FakeBackend::good(), &enough).unwrap();
    assert_eq!((outcome.results.len(), outcome.left.len()), (2, 2));
    (file, out)
}

#[test]
fn a_matrix_goes_on_with_what_is_left() {
    let root = tempfile::tempdir().unwrap();
    let (file, out) = half_done(root.path());
    let refused = |program: &str| match record::resume(&out, program) {
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

    let begun = record::resume(&out, "fake").unwrap();
    assert_eq!(begun.done.len(), 2);
    let busy = record::resume(&out, "fake");
    assert!(matches!(busy, Err(Error::OutputBusy { .. })), "{busy:?}");
    let backend = FakeBackend::good();
    let outcome = runner::run(&begun, 1, &backend, &Quiet).unwrap();
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
    let path = out.join("boot.base.zynqmp.s1/result.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut result: RunResult = serde_json::from_str(&text).unwrap();
    result.kernel.as_mut().unwrap().hash = "other".into();
    std::fs::write(&path, serde_json::to_string(&result).unwrap()).unwrap();
    let begun = record::resume(&out, "fake").unwrap();
    let e = runner::run(&begun, 1, &FakeBackend::good(), &Quiet).unwrap_err();
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
    let cells = || origin(Some(&file)).cells();
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
