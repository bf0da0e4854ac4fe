// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the kernel's data paths come to with each exporter, under each replacement policy.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use staleline::board::settings::CachePolicy;
use staleline_protocol::plan::Exporter;
use staleline_results::HazardKind;
use staleline_results::RunResult;

use crate::support::{self, clean, kinds_of};

/// All frames of the IIO scenarios together: five of 12040 bytes and one of 1000.
const PLANNED: u64 = 61_200;

#[derive(Deserialize)]
struct Row {
    cell: String,
    unexpected: Option<String>,
    result: RunResult,
}

/// Runs a matrix that comes with the tree, two guests at a time.
pub fn matrix(file: &str, kernels: &[&str]) -> Vec<RunResult> {
    matrix_with(file, kernels, 2)
}

/// The same, so many guests at a time.
pub fn matrix_with(file: &str, kernels: &[&str], jobs: usize) -> Vec<RunResult> {
    for kernel in kernels {
        support::need_kernel(kernel);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../ci/matrix")
        .join(file);
    let jobs = jobs.to_string();
    let arguments = ["--jobs", &jobs, "--format", "json", file.to_str().unwrap()];
    let mut command = support::staleline();
    command.arg("matrix").args(arguments).arg("--out");
    let run = support::finish(command, &arguments, tempfile::tempdir().unwrap());
    let rows: Vec<Row> =
        serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}", run.stderr));
    let unexpected: BTreeMap<_, _> = rows
        .iter()
        .filter_map(|row| Some((&row.cell, row.unexpected.as_ref()?)))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert_eq!(run.code, 0, "{}", run.stderr);
    for row in &rows {
        let alone = run.file(&format!("{}/result.json", row.cell));
        assert_eq!(
            serde_json::from_str::<RunResult>(&alone).unwrap(),
            row.result
        );
    }
    let junit = quick_junit::Report::deserialize_from_str(&run.file("junit.xml")).unwrap();
    let cases: usize = junit.test_suites.iter().map(|s| s.test_cases.len()).sum();
    assert_eq!(cases, rows.len());
    rows.into_iter().map(|row| row.result).collect()
}

#[test]
fn two_at_a_time_every_exporter_under_every_policy() {
    let results = matrix("exporters.toml", &["base"]);
    let mut seen: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for result in &results {
        let name = result.exporter.as_deref().unwrap();
        let exporter = Exporter::ALL.into_iter().find(|e| e.name() == name);
        let key = (result.scenario.as_str(), name);
        seen.entry(key).or_default().push(&result.cache);
        // A hazard or none: all data has been through, and was looked at.
        assert_eq!(result.data.planned, PLANNED, "{}", result.replay);
        assert_eq!(result.data.bytes, PLANNED, "{}", result.replay);
        judge(result, exporter.unwrap());
    }
    for exporter in Exporter::MAINLINE {
        for scenario in ["iio-capture", "iio-playback"] {
            let policies = &seen[&(scenario, exporter.name())];
            let all = CachePolicy::ALL.map(|policy| staleline::names::name(&policy));
            assert_eq!(policies[..], all, "{scenario} {exporter:?}");
        }
    }
}

fn judge(result: &RunResult, exporter: Exporter) {
    let of = &result.replay;
    let kinds = kinds_of(result);
    let corrupt = result.data.corrupt_bytes;
    let udmabuf = exporter == Exporter::Udmabuf;
    match result.scenario.as_str() {
        "iio-capture" if udmabuf => udmabuf_capture(result),
        "iio-capture" | "iio-playback" => {
            clean(result);
            // It passes because the kernel works for it, not because nobody looked.
            assert!(result.maintenance.needed > 0, "{of}");
        }
        "iio-capture-nosync" => {
            // The missing clean of udmabuf's attach is there too.
            let clobber = kinds.contains(&HazardKind::WritebackClobber);
            assert_eq!(clobber, udmabuf, "{of}: {kinds:?}");
            assert!(kinds.contains(&HazardKind::MissingInvalidate), "{of}");
            assert_eq!(kinds.len(), if udmabuf { 2 } else { 1 }, "{of}: {kinds:?}");
            // Almost all: zeroes that should be there are not wrong.
            assert!(corrupt > PLANNED * 9 / 10, "{of}: {corrupt}");
        }
        "iio-playback-nosync" => {
            assert_eq!(kinds, [HazardKind::MissingClean], "{of}");
            assert!(corrupt > PLANNED * 9 / 10, "{of}: {corrupt}");
        }
        other => panic!("nobody has said what {other} comes to"),
    }
}

/// udmabuf attaches with DMA_ATTR_SKIP_CPU_SYNC. What is found is a matter of the software; what
/// becomes of it, of the cache: here, whether it writes the dirty zeroes back between the ADC's
/// write and SYNC_START.
fn udmabuf_capture(result: &RunResult) {
    let of = &result.replay;
    assert_eq!(
        kinds_of(result),
        [HazardKind::WritebackClobber, HazardKind::DiscardedWrite],
        "{of}"
    );
    let clobbers = || {
        let kind = HazardKind::WritebackClobber;
        result.hazards.iter().filter(move |h| h.kind == kind)
    };
    // The first use of both DMABUFs, 189 lines each: for later ones SYNC_END has cleaned.
    assert_eq!(clobbers().map(|h| h.lines).sum::<u64>(), 2 * 189, "{of}");
    let destroyed: u64 = clobbers().map(|h| h.wrong_bytes).sum();
    let manifested: u64 = clobbers().map(|h| h.manifested_lines).sum();
    assert_eq!(destroyed, result.data.corrupt_bytes, "{of}");
    match &*result.cache {
        "lazy" => {
            assert_eq!((manifested, destroyed), (0, 0), "{of}");
        }
        // A line or two may be evicted in time, as the guest's other memory happens to lie.
        "zynqmp" => assert!(manifested < 189 / 4, "{of}: {manifested}"),
        "eager" => {
            assert_eq!(manifested, 2 * 189, "{of}");
            assert!(destroyed > 2 * 12_040 * 9 / 10, "{of}: {destroyed}");
        }
        other => assert_eq!(other, "random", "{of}"),
    }
}

/// The README's example of a bug that one cache hides and another shows.
#[test]
fn a_clobber_is_latent_until_a_line_is_evicted() {
    let clobber = |cache: &str| {
        let settings = ["exporter=udmabuf", "frames=2", "buffers=1", cache];
        let result = support::run_set("iio-capture", &settings).result();
        let kind = HazardKind::WritebackClobber;
        assert!(kinds_of(&result).contains(&kind), "{cache}");
        let of_kind = result.hazards.iter().filter(|h| h.kind == kind);
        let manifested = of_kind.filter(|h| h.manifested).count();
        (manifested > 0, result.data.corrupt_bytes > 0)
    };
    assert_eq!(clobber("cache=zynqmp"), (false, false));
    assert_eq!(clobber("cache=eager"), (true, true));
}

#[test]
fn two_at_a_time_the_patches_mend_what_they_are_for() {
    let results = matrix("begin-end-access.toml", &["base", "begin-end-access"]);
    let mut hazards: BTreeMap<_, BTreeMap<String, Vec<HazardKind>>> = BTreeMap::new();
    for result in &results {
        let kernel = result.kernel.as_ref().unwrap().name.clone();
        // All that a run is made of but its kernel.
        let run = result.replay.replace(&format!("--kernel {kernel}"), "");
        let kinds = kinds_of(result);
        if kernel == "begin-end-access" {
            clean(result);
        }
        let before = hazards.entry(run).or_default().insert(kernel, kinds);
        assert_eq!(before, None, "{}: twice in the matrix", result.replay);
        assert_eq!(result.data.bytes, result.data.planned, "{}", result.replay);
    }
    let both = hazards.values().filter(|kernels| kernels.len() == 2);
    let mended = both.filter(|k| !k["base"].is_empty() && k["begin-end-access"].is_empty());
    // With every exporter: ADC to USB, USB to DAC where snooping writes allocate, user space without
    // SYNC, and both ways on the swapped board. With udmabuf: the capture it does not clean for.
    assert_eq!(mended.count(), 5 * 3 + 1, "{hazards:#?}");
}

#[test]
fn a_cell_that_is_not_as_expected_fails_the_matrix() {
    support::need_kernel("base");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    let text = "schema = 1\n[[group]]\nscenarios = [\"iio-playback-nosync\"]\nexpect = \"pass\"\n";
    std::fs::write(&file, text).unwrap();
    let arguments = ["--format", "json", file.to_str().unwrap()];
    let mut command = support::staleline();
    command.arg("matrix").args(arguments).arg("--out");
    let run = support::finish(command, &arguments, dir);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let rows: Vec<Row> = serde_json::from_str(&run.stdout).unwrap();
    let why = rows[0].unexpected.as_deref().unwrap();
    assert!(why.contains("expected pass, got fail"), "{why}");
}
