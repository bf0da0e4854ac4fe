// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A program and a module of the user's in one matrix, on kernels with and without the patches.

use std::fmt::Write as _;
use std::fs;

use crate::{exec, exporters, module};

const KERNELS: [&str; 2] = ["base+userland", "begin-end-access+userland"];

/// A group of one scenario, which is to end as `expected` says.
fn group(scenario: &str, kernel: &str, expected: &str) -> String {
    format!("[[group]]\nscenarios = [\"{scenario}\"]\nkernels = [\"{kernel}\"]\n{expected}\n")
}

#[test]
fn a_program_and_a_module_are_judged_in_a_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = |name: &str, rest: &str| {
        let head = format!("schema = 1\nname = \"{name}\"\ndescription = \"Of one's own.\"\n");
        fs::write(dir.path().join(format!("{name}.toml")), head + rest).unwrap();
        format!("{name}.toml")
    };
    let fails = "expect = \"fail\"\nhazards = [\"missing-invalidate\"]";
    let mut matrix = String::from("schema = 1\n");

    exec::example(&dir, "capture");
    let right = scenario("right", "[guest]\nexec = [\"./capture\"]\n");
    let wrong = scenario("wrong", "[guest]\nexec = [\"./capture\", \"-n\"]\n");
    let [base, patched] = KERNELS;
    for (scenario, kernel, expected) in [
        (&right, base, ""),
        (&right, patched, ""),
        (&wrong, base, fails),
        // There the importer does what SYNC would have done.
        (&wrong, patched, ""),
    ] {
        matrix += &group(scenario, kernel, expected);
    }
    for (n, kernel) in KERNELS.into_iter().enumerate() {
        // A module is of one kernel.
        let place = tempfile::tempdir_in(&dir).unwrap();
        let built = module::build(&place, kernel, "dma_copy", None);
        for (name, parameters, expected) in [("syncs", "", ""), ("forgets", ":forget=1", fails)] {
            let mut rest = "[board.gdma]\nport = \"hp\"\n[guest]\n".to_owned();
            writeln!(rest, "modules = [\"{}{parameters}\"]", built.display()).unwrap();
            let scenario = scenario(&format!("{name}-{n}"), &rest);
            matrix += &group(&scenario, kernel, expected);
        }
        // Kept until the matrix has run.
        let _ = place.keep();
    }
    let file = dir.path().join("own.toml");
    fs::write(&file, matrix).unwrap();
    let results = exporters::matrix_with(file.to_str().unwrap(), &KERNELS, 2);
    assert_eq!(results.len(), 8);
    let failed: Vec<_> = results.iter().filter(|r| !r.hazards.is_empty()).collect();
    let named: Vec<_> = failed.iter().map(|r| r.scenario.as_str()).collect();
    assert_eq!(named, ["wrong", "forgets-0", "forgets-1"]);
}
