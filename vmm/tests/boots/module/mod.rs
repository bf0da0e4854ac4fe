// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Modules of the user's in the guest.

mod refused;
mod reports;

use std::path::{Path, PathBuf};

use staleline_results::{HazardKind, Party, RunResult, Verdict};
use tempfile::TempDir;

use crate::support::{self, Run};

const BASE: &str = "base+userland";
const PATCHED: &str = "begin-end-access+userland";
pub const GDMA: [&str; 2] = ["--set", "board.gdma.port=hp"];

/// What some modules include.
const COPIES: &str = "copies.h";

/// Builds the module of that source, or the example, for a kernel.
#[track_caller]
pub fn build(dir: &TempDir, kernel: &str, name: &str, source: Option<&str>) -> PathBuf {
    support::need_kernel(kernel);
    let own = dir.path().join(name);
    std::fs::create_dir_all(&own).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/examples/module");
    let file = format!("{name}.c");
    let source = source.map_or_else(
        || std::fs::read_to_string(example.join(&file)).unwrap(),
        str::to_owned,
    );
    if source.contains(COPIES) {
        std::fs::write(own.join(COPIES), include_str!("copies.h")).unwrap();
    }
    std::fs::write(own.join(&file), source).unwrap();
    std::fs::write(own.join("Kbuild"), format!("obj-m += {name}.o\n")).unwrap();
    let mut command = support::staleline();
    command.args(["module", "build"]).arg(&own);
    let out = command.args(["--kernel", kernel]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    let told = String::from_utf8(out.stdout).unwrap();
    let built = PathBuf::from(told.trim_end());
    assert_eq!(
        built,
        own.canonicalize().unwrap().join(format!("{name}.ko"))
    );
    built
}

/// `staleline COMMAND` with these words.
#[track_caller]
pub fn go(kernel: &str, command: &[&str], words: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let mut staleline = support::staleline();
    staleline.args(command).args(["--kernel", kernel]);
    staleline.arg("--out").arg(dir.path().join("out"));
    support::finish_with(staleline, words, words, dir)
}

#[track_caller]
fn insert(kernel: &str, module: &str) -> Run {
    go(
        kernel,
        &["exec"],
        &[&GDMA[..], &["--module", module]].concat(),
    )
}

/// The file of the first finding, as code hosts get it that have `top`.
fn sarif(top: &Path, run: &Run) -> String {
    let mut command = support::staleline();
    command
        .arg("report")
        .arg(run.path())
        .args(["--format", "sarif"]);
    let out = command.current_dir(top).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let at = &document["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    at["artifactLocation"]["uri"].as_str().unwrap().to_owned()
}

fn reader(result: &RunResult) -> &staleline_results::Place {
    match &result.hazards[result.diagnostics[0].shown].reader {
        Party::Cpu { place, .. } => place,
        other => panic!("{other:?}"),
    }
}

const ERRS: &str = include_str!("errs.c");

/// One error of a driver is told once, and the advice is about what it did.
#[test]
fn a_driver_that_errs_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = build(&dir, BASE, "errs", Some(ERRS));
    let file = file.to_str().unwrap();
    insert(BASE, file).ends(0, Verdict::Pass);
    for (how, row, said) in [
        ("early", "early", "after the completion of the transfer"),
        ("racing", "early", "after the completion of the transfer"),
        ("part", "synced-in-part", "with the whole length"),
        ("shared", "shared-line", "lines of its own"),
    ] {
        let run = insert(BASE, &format!("{file}:how={how}"));
        let result = run.ends(1, Verdict::Fail);
        let causes: Vec<_> = result.causes().collect();
        let [cause] = causes[..] else {
            panic!("{how}: {}", run.stdout);
        };
        let diagnostic = &result.diagnostics[cause];
        assert_eq!(diagnostic.advice, row, "{how}: {}", run.stdout);
        assert!(diagnostic.help.contains(said), "{how}: {}", diagnostic.help);
    }
}

/// Neither kernel has a part in it: who maps a page for DMA has to unmap it.
#[test]
fn the_example_is_right_and_wrong_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    for kernel in [BASE, PATCHED] {
        let file = build(&dir, kernel, "dma_copy", None);
        let file = file.to_str().unwrap();
        let run = insert(kernel, file);
        let result = run.ends(0, Verdict::Pass);
        let module = &result.guest.modules[0];
        assert!(module.ended && module.error.is_none(), "{module:?}");
        let given = result
            .inputs
            .iter()
            .find(|i| i.guest == "/root/dma_copy.ko");
        assert!(given.is_some_and(|i| i.host == file && i.hash.len() == 64));
        assert!(result.hazards.is_empty() && result.machine.unwrap().transfers == 2);

        let run = insert(kernel, &format!("{file}:forget=1"));
        let result = run.ends(1, Verdict::Fail);
        assert_eq!(support::kinds_of(&result), [HazardKind::MissingInvalidate]);
        // The module's own file and line, of code that is still there and of its init, which is not.
        let place = reader(&result);
        assert!(place.kernel && place.module.as_deref() == Some("dma_copy"));
        let functions: Vec<_> = [place]
            .into_iter()
            .chain(place.stack.iter().flat_map(|s| &s.callers))
            .filter(|p| p.module.is_some())
            .flat_map(|p| &p.frames)
            .collect();
        assert!(
            functions.iter().any(|f| f.function == "wrong_bytes"),
            "{functions:?}"
        );
        let init = functions.iter().find(|f| f.function == "dma_copy_init");
        let init = init.unwrap_or_else(|| panic!("{functions:?}"));
        assert!(
            init.file.as_deref() == Some("dma_copy.c") && init.line.is_some(),
            "{init:?}"
        );
        assert!(run.stdout.contains("> wrong_bytes+0x"), "{}", run.stdout);
        assert!(
            run.stdout.contains(" [dma_copy]  dma_copy.c:"),
            "{}",
            run.stdout
        );
        assert!(!run.stdout.contains("user space"), "{}", run.stdout);
        let document = sarif(dir.path(), &run);
        assert_eq!(document, "dma_copy/dma_copy.c", "{}", run.stdout);
        let text = "| wrong += READ_ONCE(copy[at]) != pattern(at);";
        assert!(run.stdout.contains(text), "{}", run.stdout);
        // It was the module that asked for what was done.
        let callers = result.maintenance.callers.iter();
        let callers: Vec<_> = callers.map(|c| c.function.as_str()).collect();
        assert!(
            callers.contains(&"copy_once") || callers.contains(&"copy_page_by_dma"),
            "{callers:?}"
        );
    }
}

const FAILS: &str = r#"
#include <linux/module.h>
static int error = ENODEV;
module_param(error, int, 0444);
static char *names[3];
module_param_array(names, charp, NULL, 0444);
static bool quiet;
module_param(quiet, bool, 0444);
static int counted(const char *value, const struct kernel_param *parameter)
{
	return *value == '7' ? 0 : -EDOM;
}
static const struct kernel_param_ops count_ops = { .set = counted };
module_param_cb(count, &count_ops, NULL, 0200);
static int __init fails_init(void)
{
	if (!quiet)
		pr_err("fails: nothing here answers\n");
	return -error;
}
module_init(fails_init);
MODULE_LICENSE("GPL");
"#;

#[test]
fn what_the_kernel_says_of_a_module_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let fails = build(&dir, BASE, "fails", Some(FAILS));
    let fails = fails.to_str().unwrap();
    // What comes after it is not begun.
    let run = go(
        BASE,
        &["run", "iio-capture"],
        &["--module", &format!("{fails}:error=5")],
    );
    let result = run.ends(1, Verdict::Fail);
    assert_eq!(
        result.reasons,
        [
            "the init of module fails failed: Input/output error (os error 5); the kernel says: fails: \
             nothing here answers"
        ]
    );
    assert!(
        run.stdout
            .contains("error: the init of module fails failed")
    );
    assert!(
        result
            .guest
            .tests
            .iter()
            .any(|t| t.skipped && t.name == "iio-capture")
    );

    let fine = go(
        BASE,
        &["run", "iio-capture"],
        &["--module", &format!("{fails}:error=0")],
    );
    let result = fine.ends(0, Verdict::Pass);
    assert!(result.data.bytes > 0);

    // Alone, and with the error that drivers know best.
    let result = go(BASE, &["exec"], &["--module", fails]).ends(1, Verdict::Fail);
    let why = "the init of module fails failed: No such device (os error 19); the kernel says: ";
    assert!(result.reasons[0].starts_with(why), "{:?}", result.reasons);

    // What the kernel finds wrong before it calls the init, and nobody could see before it booted.
    let run = go(BASE, &["exec"], &["--module", &format!("{fails}:count=8")]);
    let result = run.ends(3, Verdict::InfraError);
    assert!(
        result.reasons[0].contains("invalid for parameter `count'"),
        "{:?}",
        result.reasons
    );
}

#[test]
fn a_kernel_without_modules_is_told_before_it_boots() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.ko");
    std::fs::write(&file, "no module").unwrap();
    let file = file.to_str().unwrap();
    let fails = |kernel: &str, why: &[&str]| {
        let mut command = support::staleline();
        let out = command
            .args(["exec", "--kernel", kernel, "--module", file])
            .current_dir(&dir)
            .output()
            .unwrap();
        let told = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{told}");
        for why in why {
            assert!(told.contains(why), "{told}");
        }
    };
    fails("base", &["CONFIG_MODULES", "name base+userland"]);
    fails(
        BASE,
        &[
            "no ELF file",
            "staleline module build DIR --kernel base+userland",
        ],
    );
}

/// A scenario's file names its modules, and a program finds them there.
#[test]
fn a_scenario_has_modules_and_a_replay_says_which_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let module = build(&dir, BASE, "fails", Some(FAILS));
    let beside = dir.path().join("fails.ko");
    std::fs::copy(&module, &beside).unwrap();
    let scenario = dir.path().join("own.toml");
    std::fs::write(
        &scenario,
        "schema = 1\nname = \"own\"\ndescription = \"A module.\"\n\
         [guest]\nmodules = [\"fails.ko:error=0\"]\n",
    )
    .unwrap();
    let run = go(BASE, &["run", scenario.to_str().unwrap()], &[]);
    let result = run.ends(0, Verdict::Pass);
    assert_eq!(result.guest.modules[0].parameters, "error=0");
    let (code, told) = run.replay(&[]);
    assert_eq!(code, 0, "{told}");
    let longer = FAILS.replace(
        "return -error",
        "pr_info(\"fails: more\\n\"); return -error",
    );
    let changed = build(&dir, BASE, "fails", Some(&longer));
    std::fs::copy(&changed, &beside).unwrap();
    let (code, told) = run.replay(&[]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("input /root/fails.ko"), "{told}");
}
