// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Every case of the corpus is as its file says.

use staleline_litmus::builtin;
use staleline_litmus::verdict::Verdict;

#[test]
fn the_explorer_agrees_with_every_case() {
    let mut wrong = Vec::new();
    for case in builtin::cases().unwrap() {
        let verdict = Verdict::of(&case).unwrap();
        for difference in verdict.differences {
            wrong.push(format!("{}: {difference}", case.id));
        }
        if std::env::var_os("LITMUS_SHOW").is_some() {
            println!("{} states {}", case.id, verdict.answer.states);
            for f in &verdict.findings {
                let r = f.repair.as_ref().map(|r| r.describe(&case.program));
                println!("    {} at {} {}: {r:?}", f.kind, f.at, case.program.ranges(f.bytes));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
