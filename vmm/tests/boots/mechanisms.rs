// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The table of what was proposed and found elsewhere is what its matrix prints.

use crate::support::staleline;

const README: &str = include_str!("../../../README.md");

/// How the table of rows begins.
const HEAD: &str = " row  what";

/// From its head on, as far as it goes.
fn table(text: &str) -> &str {
    let from = text.find(HEAD).unwrap();
    let rest = &text[from..];
    rest.find("```").map_or(rest, |end| &rest[..end]).trim_end()
}

#[test]
#[ignore = "219 boots of 16 kernels, some of which have to be built"]
fn each_mechanism_comes_to_what_the_readme_says() {
    let dir = tempfile::tempdir().unwrap();
    let matrix = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/matrix/mechanisms.toml");
    let mut command = staleline();
    command.args(["matrix", matrix, "--out"]);
    let done = command.arg(dir.path().join("out")).output().unwrap();
    let printed = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{printed}");
    let (shown, printed) = (table(README), table(&printed));
    assert_eq!(
        shown, printed,
        "README.md shows another table:\n{printed}\n"
    );
}
