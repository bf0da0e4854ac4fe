// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the kernel reports of a module, with the module's own lines.

use std::path::Path;

use staleline_results::{Place, RunResult, Verdict};

use super::{BASE, build, go};
use crate::support;

/// Takes the kernel down at once, or warns and goes on. Nothing waits, so nobody can look where it is. What has
/// called nobody yet has no frame, and the kernel leaves its caller out: so all call.
const OOPSES: &str = r#"
#include <linux/ktime.h>
#include <linux/module.h>
static bool warns;
module_param(warns, bool, 0444);
static int *volatile nowhere;
static volatile int seen;
static noinline int reads(const int *from)
{
	seen = !ktime_get();
	return READ_ONCE(*from) + 1; /* the oops */
}
static noinline int looks(const int *from)
{
	seen = !ktime_get();
	WARN_ON(warns); /* the WARN */
	if (!warns)
		seen += reads(from); /* the call */
	return seen;
}
static int __init oopses_init(void)
{
	seen += looks(nowhere); /* the init */
	return seen ? -EIO : 0;
}
module_init(oopses_init);
MODULE_LICENSE("GPL");
"#;

fn line(what: &str) -> u32 {
    let at = OOPSES
        .lines()
        .position(|l| l.contains(&format!("/* {what} */")));
    u32::try_from(at.unwrap()).unwrap() + 1
}

/// Functions of a module, with their lines.
fn of_module(place: &Place) -> Vec<(&str, u32)> {
    let callers = place.stack.iter().flat_map(|s| &s.callers);
    let places = [place].into_iter().chain(callers);
    let frames = places
        .filter(|p| p.module.as_deref() == Some("oopses"))
        .flat_map(|p| &p.frames);
    frames
        .map(|f| {
            assert_eq!(f.file.as_deref(), Some("oopses.c"));
            (f.function.as_str(), f.line.unwrap())
        })
        .collect()
}

fn place(result: &RunResult) -> &Place {
    let [report] = &result.guest.reports[..] else {
        panic!("{:#?}", result.guest.reports);
    };
    let place = report.place.as_ref();
    place.unwrap_or_else(|| panic!("{report:#?}"))
}

#[test]
fn the_kernels_reports_have_the_lines_of_modules_and_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = build(&dir, BASE, "oopses", Some(OOPSES));
    let file = file.to_str().unwrap();
    for (words, first) in [("warns=0", "the oops"), ("warns=1", "the WARN")] {
        let run = go(BASE, &["exec"], &["--module", &format!("{file}:{words}")]);
        let result = run.ends(1, Verdict::Fail);
        let place = place(&result);
        let mut known = vec![
            ("looks", line("the WARN")),
            ("oopses_init", line("the init")),
        ];
        if words == "warns=0" {
            known[0].1 = line("the call");
            known.insert(0, ("reads", line("the oops")));
        }
        assert_eq!(of_module(place), known, "{}", run.stdout);
        // And those of the kernel that led there.
        let callers = &place.stack.as_ref().unwrap().callers;
        let called = callers.iter().find(|p| p.function() == "do_one_initcall");
        let called = called.unwrap_or_else(|| panic!("{callers:#?}"));
        let frame = &called.frames[0];
        assert_eq!(frame.file.as_deref(), Some("init/main.c"), "{called:?}");
        assert!(callers.iter().all(|p| !p.frames.is_empty()), "{callers:#?}");

        let function = known[0].0;
        let shown = format!("[oopses]  oopses.c:{}", line(first));
        assert!(
            run.stdout.contains(&format!("> {function}+0x")),
            "{}",
            run.stdout
        );
        assert!(run.stdout.contains(&shown), "{}", run.stdout);
        assert!(
            run.stdout.contains(&format!("/* {first} */")),
            "{}",
            run.stdout
        );
        in_a_checkout(dir.path(), &run.path(), line(first));
    }
}

/// Code hosts name files from the top of a checkout.
fn in_a_checkout(top: &Path, run: &Path, line: u32) {
    std::fs::create_dir_all(top.join(".git")).unwrap();
    for here in [top, &top.join("oopses")] {
        let mut command = support::staleline();
        command.arg("report").arg(run).args(["--format", "sarif"]);
        let out = command.current_dir(here).output().unwrap();
        let sarif: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let found = &sarif["runs"][0]["results"][0];
        assert_eq!(found["ruleId"], "kernel-report");
        let at = &found["locations"][0]["physicalLocation"];
        assert_eq!(
            at["artifactLocation"]["uri"], "oopses/oopses.c",
            "{found:#}"
        );
        assert_eq!(at["region"]["startLine"], line, "{found:#}");
        let way = found["relatedLocations"].as_array().unwrap();
        assert!(way.len() >= 2, "{found:#}");
    }
}
