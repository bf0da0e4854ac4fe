// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline kernel check` as users meet it, with stand-ins for the programs it runs.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const GOOD: &str = "--- a/driver.c\n+++ b/driver.c\n@@ -1 +1,2 @@\n int a;\n+int b;\n";
const UGLY: &str = "--- a/driver.c\n+++ b/driver.c\n@@ -1 +1,2 @@\n int a;\n+int long, long;\n";

/// A source tree, patch stacks, and programs.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-kernel/builder/testdata");
        for (name, text) in [
            ("tree/Makefile", ""),
            ("tree/Kconfig", ""),
            ("tree/arch/arm64/Kconfig", ""),
            ("tree/Kbuild", "driver.o\n"),
            ("tree/driver.c", "int a;\n"),
            ("guest-kernel/config/staleline.config", "CONFIG_A=y\n"),
            ("guest-kernel/config/lockdep.config", "CONFIG_B=y\n"),
            ("guest-kernel/stacks/base/series", ""),
            ("guest-kernel/stacks/good/series", "good.patch\n"),
            ("guest-kernel/stacks/good/good.patch", GOOD),
        ] {
            place.write(name, text);
        }
        fs::create_dir(place.path("tree/scripts")).unwrap();
        for script in ["checkpatch.pl", "kernel-doc"] {
            fs::copy(data.join(script), place.path("tree/scripts").join(script)).unwrap();
        }
        fs::create_dir(place.path("bin")).unwrap();
        for (name, is) in [
            ("aarch64-linux-gnu-gcc", "tool"),
            ("aarch64-linux-gnu-ld", "tool"),
            ("gcc", "tool"),
            ("flex", "tool"),
            ("bison", "tool"),
            ("bc", "tool"),
            ("make", "make"),
            ("perl", "perl"),
        ] {
            symlink(data.join(is), place.path("bin").join(name)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn add_ugly(&self) {
        self.write("guest-kernel/stacks/ugly/series", "ugly.patch\n");
        self.write("guest-kernel/stacks/ugly/ugly.patch", UGLY);
    }

    /// Exit code, standard output, standard error.
    fn check(&self, arguments: &[&str], path: &str) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_staleline"))
            .args(["kernel", "check", "--src"])
            .arg(self.path("tree"))
            .args(arguments)
            .env("PATH", path)
            .env("CROSS_COMPILE", "aarch64-linux-gnu-")
            .env("STALELINE_GUEST_KERNEL", self.path("guest-kernel"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn checks(&self, arguments: &[&str]) -> (i32, String, String) {
        let bin = self.path("bin");
        self.check(arguments, &format!("{}:/usr/bin:/bin", bin.display()))
    }
}

#[test]
fn a_good_stack_passes() {
    let place = Place::new();
    let (code, told, error) = place.checks(&["--stack", "good"]);
    assert_eq!(code, 0, "{error}");
    let (patch, rest) = told.split_once('\n').unwrap();
    assert_eq!(
        patch,
        "ok    good.patch: applies, checkpatch.pl, 1 file with W=1"
    );
    assert!(
        rest.starts_with("good: 1 patch, 0 complaints, on tree sha256:"),
        "{rest}"
    );

    let (code, told, error) = place.checks(&["--stack", "good+lockdep", "--format", "json"]);
    assert_eq!(code, 0, "{error}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told[0]["name"], "good+lockdep");
    assert_eq!(told[0]["patches"][0]["compiled"][0], "driver.c");
}

#[test]
fn a_complaint_fails() {
    let place = Place::new();
    place.add_ugly();
    // All stacks with patches, of which one is ugly.
    let (code, told, error) = place.checks(&[]);
    assert_eq!(code, 1, "{error}");
    let complaint = "wrong ugly.patch: applies, checkpatch.pl, 1 file with W=1\n  \
                     ugly.patch:5: check: a long, long line [checkpatch LONG_LINE]\n\
                     ugly: 1 patch, 1 complaint, on tree";
    assert!(told.contains(complaint), "{told}");
    assert!(told.contains("good: 1 patch, 0 complaints"), "{told}");

    let (code, told, _) = place.checks(&["--stack", "ugly", "--format", "json"]);
    assert_eq!(code, 1);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let complaint = &told[0]["patches"][0]["complaints"][0];
    assert_eq!(complaint["by"], "checkpatch");
    assert_eq!(complaint["level"], "check");
    assert_eq!(complaint["kind"], "LONG_LINE");
    assert_eq!(complaint["line"], 5);
}

#[test]
fn what_is_asked_for_wrongly_is_usage() {
    let place = Place::new();
    for (arguments, help) in [
        (&["--stack", "base"][..], "stacks with patches: good"),
        (&["--stack", "goad"], "did you mean `good`?"),
        (
            &["--stack", "good", "--config", "lokdep"],
            "did you mean `lockdep`?",
        ),
    ] {
        let (code, told, error) = place.checks(arguments);
        assert_eq!((code, told.as_str()), (2, ""), "{error}");
        assert!(error.contains(help), "{error}");
    }
}

#[test]
fn a_machine_without_perl_is_infrastructure() {
    let place = Place::new();
    fs::remove_file(place.path("bin/perl")).unwrap();
    // Here so that perl is all that is missing; nothing gets so far as to run it.
    symlink("/bin/true", place.path("bin/patch")).unwrap();
    let bin = place.path("bin").display().to_string();
    let (code, told, error) = place.check(&["--stack", "good"], &bin);
    assert_eq!((code, told.as_str()), (3, ""), "{error}");
    assert!(
        error.contains("needs perl: apt-get install perl"),
        "{error}"
    );
}
