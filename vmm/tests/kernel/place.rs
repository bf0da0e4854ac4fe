// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where a kernel is built and checked with stand-ins for the programs that it takes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const GOOD: &str = "--- a/driver.c\n+++ b/driver.c\n@@ -1 +1,2 @@\n int a;\n+int b;\n";
const UGLY: &str = "--- a/driver.c\n+++ b/driver.c\n@@ -1 +1,2 @@\n int a;\n+int long, long;\n";

/// A source tree, patch stacks, and programs.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn add_ugly(&self) {
        self.write("guest-kernel/stacks/ugly/series", "ugly.patch\n");
        self.write("guest-kernel/stacks/ugly/ugly.patch", UGLY);
    }

    /// Exit code, standard output, standard error of `staleline` with these words.
    pub fn says(&self, words: &[&str], path: &str) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_staleline"))
            .args(words)
            .current_dir(self.0.path())
            .env("PATH", path)
            .env("CROSS_COMPILE", "aarch64-linux-gnu-")
            .env("STALELINE_GUEST_KERNEL", self.path("guest-kernel"))
            .env("STALELINE_QEMU", "/nonexistent/qemu")
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env_remove("STALELINE_LOG")
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    /// The same, with all stand-ins.
    pub fn told(&self, words: &[&str]) -> (i32, String, String) {
        let bin = self.path("bin");
        self.says(words, &format!("{}:/usr/bin:/bin", bin.display()))
    }

    /// `staleline kernel check` of the source tree.
    pub fn check(&self, arguments: &[&str], path: &str) -> (i32, String, String) {
        self.says(
            &[&["kernel", "check", "--src", "tree"], arguments].concat(),
            path,
        )
    }

    /// With all stand-ins.
    pub fn checks(&self, arguments: &[&str]) -> (i32, String, String) {
        self.told(&[&["kernel", "check", "--src", "tree"], arguments].concat())
    }
}
