// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Modules that a kernel would not take, or would take otherwise than meant: told before it boots.

use std::path::Path;

use staleline_results::Verdict;

use super::{BASE, FAILS, PATCHED, build, go};
use crate::support;

/// Ends with exit code 2, and has not begun a run.
#[track_caller]
fn refused(dir: &Path, kernel: &str, modules: &[&str], told: &[&str]) {
    support::need_kernel(kernel);
    let mut command = support::staleline();
    command.args(["exec", "--kernel", kernel]).current_dir(dir);
    for module in modules {
        command.args(["--module", module]);
    }
    let out = command.output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{said}");
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in told {
        assert!(words.contains(told), "{told}: {said}");
    }
    assert!(!dir.join("runs").exists());
}

#[test]
fn parameters_that_a_module_does_not_have_are_told() {
    let dir = tempfile::tempdir().unwrap();
    build(&dir, BASE, "fails", Some(FAILS));
    let refused = |parameters: &str, told: &[&str]| {
        let module = format!("fails/fails.ko:{parameters}");
        refused(dir.path(), BASE, &[&module], told);
    };
    let has = "it has count (of its own type), error (int), names (charp, at most 3), quiet (bool)";
    refused(
        "eror=0",
        &["no parameter `eror`", "did you mean `error`?", has],
    );
    refused(
        "error=x",
        &["`error` is of type int, which `x` is not", has],
    );
    refused("error=0 names=a,b,c,d", &["at most 3 values, and 4"]);
    refused("quiet=perhaps error=0", &["`quiet` takes a bool"]);
    let example = build(&dir, BASE, "dma_copy", None);
    let example = format!("{}:forgot=1", example.display());
    super::refused::refused(dir.path(), BASE, &[&example], &["it has forget (bool)"]);
    // What only the module can judge, it does.
    let all = "error=0 names=a,b quiet count=7 async_probe";
    let module = dir.path().join("fails/fails.ko");
    let run = go(
        BASE,
        &["exec"],
        &["--module", &format!("{}:{all}", module.display())],
    );
    run.ends(0, Verdict::Pass);
}

#[test]
fn a_module_for_another_kernel_is_told_with_what_makes_one_for_this() {
    let dir = tempfile::tempdir().unwrap();
    build(&dir, BASE, "fails", Some(FAILS));
    let place = dir.path().canonicalize().unwrap();
    refused(
        dir.path(),
        PATCHED,
        &["fails/fails.ko:error=0"],
        &[
            "its vermagic is `6.12",
            "-base+userland SMP",
            "and that of kernel `begin-end-access+userland` is `6.12",
            "-begin-end-access+userland SMP",
            &format!(
                "staleline module build {}/fails --kernel begin-end-access+userland",
                place.display()
            ),
        ],
    );
}

const GIVES: &str = r#"
#include <linux/module.h>
int gives_it(void);
int gives_it(void)
{
	return 0;
}
EXPORT_SYMBOL_GPL(gives_it);
MODULE_LICENSE("GPL");
"#;

const TAKES: &str = r#"
#include <linux/module.h>
int gives_it(void);
static int __init takes_init(void)
{
	return gives_it();
}
module_init(takes_init);
MODULE_LICENSE("GPL");
"#;

#[test]
fn symbols_that_nobody_has_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let both = dir.path().join("gives");
    std::fs::create_dir(&both).unwrap();
    std::fs::write(both.join("takes.c"), TAKES).unwrap();
    std::fs::write(both.join("gives.c"), GIVES).unwrap();
    std::fs::write(both.join("Kbuild"), "obj-m += gives.o takes.o\n").unwrap();
    support::need_kernel(BASE);
    let mut command = support::staleline();
    command.args(["module", "build"]).arg(&both);
    let out = command.args(["--kernel", BASE]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let [gives, takes] = ["gives/gives.ko", "gives/takes.ko"];
    let told = ["it needs symbols", "does not export", "gives_it"];
    refused(dir.path(), BASE, &[takes], &told);
    refused(dir.path(), BASE, &[takes, gives], &told);
    let [gives, takes] = [gives, takes].map(|file| dir.path().join(file).display().to_string());
    let run = go(BASE, &["exec"], &["--module", &gives, "--module", &takes]);
    run.ends(0, Verdict::Pass);
}
