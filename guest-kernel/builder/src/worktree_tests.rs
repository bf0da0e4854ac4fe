// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Recovery of the work tree from interruptions.

use std::time::SystemTime;

use super::super::tests::{Fixture, PATCH};
use super::*;

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn only(fixture: &Fixture, name: &str) -> PathBuf {
    let found = fixture.cached(name);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn an_interrupted_change_of_stacks_is_completed_by_the_next() {
    // A change that dies leaves each of its files old or new; all four combinations.
    for (driver, extra) in [(false, false), (false, true), (true, false), (true, true)] {
        let fixture = Fixture::new();
        fixture.build("base").unwrap();
        let src = only(&fixture, "src");
        let work = src.parent().unwrap();
        fs::create_dir_all(work.join("pristine")).unwrap();
        fs::copy(src.join("driver.c"), work.join("pristine/driver.c")).unwrap();
        fs::write(work.join("overlay.json"), r#"["driver.c","sub/extra.c"]"#).unwrap();
        if driver {
            fs::write(src.join("driver.c"), "int a;\nint patched;\n").unwrap();
        }
        if extra {
            fs::create_dir(src.join("sub")).unwrap();
            fs::write(src.join("sub/extra.c"), "int extra;\n").unwrap();
        }
        // Something to build: `base` itself is in the cache.
        fixture.add_stack("empty", &[]);
        let kernel = fixture.build("empty").unwrap();
        assert_eq!(
            fs::read_to_string(&kernel.image).unwrap(),
            "int a;\nint b;\n"
        );
        assert!(!src.join("sub/extra.c").exists());
        assert_eq!(fs::read_to_string(work.join("overlay.json")).unwrap(), "[]");

        let kernel = fixture.build("patched").unwrap();
        assert_eq!(
            fs::read_to_string(&kernel.image).unwrap(),
            "int a;\nint patched;\n"
        );
        assert!(src.join("sub/extra.c").exists());
    }
}

#[test]
fn only_files_that_differ_are_touched() {
    let fixture = Fixture::new();
    fixture.add_stack(
        "more",
        &[
            PATCH,
            "--- /dev/null\n+++ b/more.c\n@@ -0,0 +1 @@\n+int m;\n",
        ],
    );
    fixture.build("patched").unwrap();
    let src = only(&fixture, "src");
    let before = modified(&src.join("driver.c"));
    fixture.build("more").unwrap();
    assert_eq!(modified(&src.join("driver.c")), before);
    assert!(src.join("more.c").exists());
    fixture.build("base").unwrap();
    assert_ne!(
        modified(&src.join("driver.c")),
        before,
        "make would miss the change"
    );
    assert!(!src.join("more.c").exists());
    // Back to the content of long ago, but newer than any object.
    assert_eq!(
        fs::read_to_string(src.join("driver.c")).unwrap(),
        "int a;\nint b;\n"
    );
}

#[test]
fn an_interrupted_unpacking_starts_again() {
    let fixture = Fixture::new();
    fixture.build("base").unwrap();
    let src = only(&fixture, "src");
    fs::rename(&src, src.with_file_name("src.partial")).unwrap();
    fs::remove_file(src.with_file_name("src.partial").join("driver.c")).unwrap();
    fixture.build("patched").unwrap();
    assert!(!src.with_file_name("src.partial").exists());
}

#[test]
fn the_lock_outlives_the_builder_while_a_child_runs() {
    let fixture = Fixture::new();
    fixture.build("base").unwrap();
    let path = only(&fixture, "lock");
    let tree = WorkTree {
        dir: path.parent().unwrap().to_owned(),
        lock: File::create(&path).unwrap(),
    };
    flock(&tree.lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .stdin(tree.lock_as_stdin().unwrap())
        .spawn()
        .unwrap();
    drop(tree);
    let other = File::open(&path).unwrap();
    assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
    child.kill().unwrap();
    child.wait().unwrap();
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
}
