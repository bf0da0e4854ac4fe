// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Checks of stacks for a tiny source tree with stand-ins for make, perl and the scripts.

use std::fs;
use std::os::unix::fs::symlink;

use staleline_support::progress::Quiet;

use super::super::tests::{Fixture, PATCH};
use super::super::tools::Tools;
use super::*;

const DRIVER: &str = "int a;\nint b;\n";

/// A patch that gives a file another content; without an old one it is new.
fn change(file: &str, old: &str, new: &str) -> String {
    let from = match old {
        "" => "/dev/null".to_owned(),
        _ => format!("a/{file}"),
    };
    let (removed, added) = (old.lines().count(), new.lines().count());
    let start = usize::from(removed > 0);
    let mut text = format!("--- {from}\n+++ b/{file}\n@@ -{start},{removed} +1,{added} @@\n");
    for (sign, content) in [('-', old), ('+', new)] {
        for line in content.lines() {
            text.push(sign);
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn request(stack: &str) -> KernelRequest {
    KernelRequest::named(stack)
}

fn check(fixture: &Fixture, patches: &[&str]) -> StackCheck {
    fixture.add_stack("checked", patches);
    let checked = fixture.builder.check(&request("checked"), &Quiet);
    checked.unwrap()
}

/// What people see, without what depends on the machine.
fn told(check: &StackCheck) -> String {
    let text = check.to_string();
    let (patches, _) = text.rsplit_once(", on ").unwrap();
    patches.to_owned()
}

#[test]
fn a_good_stack_has_nothing_against_it() {
    let fixture = Fixture::new();
    let header = change("driver.h", "", "int b;\n");
    let checked = check(&fixture, &[PATCH, &header]);
    // No Kbuild lists extra.c.
    insta::assert_snapshot!(told(&checked), @r"
    ok    0000.patch: applies, checkpatch.pl, 2 files with W=1 and sparse
      note: sub/extra.c: compiled, but this configuration does not link it into the kernel, and may leave out parts of it
    ok    0001.patch: applies, checkpatch.pl, 2 files with W=1 and sparse, kernel-doc of 1 header
    checked: 2 patches, 0 complaints
    ");
    assert_eq!(checked.complaints(), 0);
}

#[test]
fn every_kind_of_complaint_names_its_patch() {
    let fixture = Fixture::new();
    let good = "#include \"driver.h\"\nint a;\nint b;\n";
    let warned = "#include \"driver.h\"\nint a;\n#warning b is missing\n";
    let patches = [
        change("driver.h", "", "/* undescribed */\nint c;\n"),
        change("driver.c", DRIVER, good),
        change("driver.c", good, warned),
        // What came with the patch before is not told again, although it moves.
        change("driver.c", warned, &format!("int long, long;\n{warned}")),
        change("Kconfig", "", "complain\n"),
        change("driver.h", "/* undescribed */\nint c;\n", "#error c\n"),
        // Not the fault of this one.
        change("other.c", "", "int x;\n"),
        change("Kconfig", "complain\n", "nonsense\n"),
        change("tools/x.c", "", "int x;\n"),
    ];
    let patches = patches.each_ref().map(String::as_str);
    insta::assert_snapshot!(told(&check(&fixture, &patches)), @r"
    wrong 0000.patch: applies, checkpatch.pl, 1 file with W=1 and sparse, kernel-doc of 1 header
      driver.h:1: warning: a member is not described [kernel-doc]
    ok    0001.patch: applies, checkpatch.pl, 1 file with W=1 and sparse
    wrong 0002.patch: applies, checkpatch.pl, 1 file with W=1 and sparse
      driver.c:3: warning: b is missing
    wrong 0003.patch: applies, checkpatch.pl, 1 file with W=1 and sparse
      0003.patch:7: check: a long, long line [checkpatch LONG_LINE]
    wrong 0004.patch: applies, checkpatch.pl, 1 file with W=1 and sparse
      Kconfig:1: warning: it complains
    wrong 0005.patch: applies, checkpatch.pl, 0 files with W=1 and sparse, kernel-doc of 1 header
      driver.h:1: error: c
    ok    0006.patch: applies, checkpatch.pl, 1 file with W=1 and sparse
      note: driver.c: not checked: it does not compile without this patch either
    wrong 0007.patch: applies, checkpatch.pl, 0 files with W=1 and sparse
      0007.patch: error: make allnoconfig fails:
          1:nonsense
    ok    0008.patch: applies, checkpatch.pl, 0 files with W=1 and sparse
      note: tools/x.c: only scripts/checkpatch.pl looked at it
      note: nothing compiled: make allnoconfig fails without this patch, too
    checked: 9 patches, 6 complaints
    ");
}

#[test]
fn what_is_wrong_without_patches_is_nobodys_fault() {
    let fixture = Fixture::new();
    let tree = fixture.path("tree");
    let old = "#warning old\nint a;\n#warning old\n";
    fs::write(tree.join("driver.c"), old).unwrap();
    fs::write(tree.join("driver.h"), "/* undescribed */\n").unwrap();
    fs::write(tree.join("Kconfig"), "complain\n").unwrap();
    fs::write(tree.join("broken.c"), "#error old\n").unwrap();
    let more = format!("int z;\n{old}#warning old\n");
    let patches = [
        change("driver.c", old, &format!("int z;\n{old}")),
        change(
            "driver.h",
            "/* undescribed */\n",
            "int y;\n/* undescribed */\n",
        ),
        change("broken.c", "#error old\n", "#error old\nint b;\n"),
        // Once more is one too many.
        change("driver.c", &format!("int z;\n{old}"), &more),
    ];
    fixture.add_stack("checked", &patches.each_ref().map(String::as_str));
    let request = KernelRequest {
        source: Some(tree),
        ..request("checked")
    };
    let checked = fixture.builder.check(&request, &Quiet).unwrap();
    insta::assert_snapshot!(told(&checked), @r"
    ok    0000.patch: applies, checkpatch.pl, 1 file with W=1 and sparse
      note: broken.c: not checked: it does not compile without this patch either
    ok    0001.patch: applies, checkpatch.pl, 1 file with W=1 and sparse, kernel-doc of 1 header
      note: broken.c: not checked: it does not compile without this patch either
    ok    0002.patch: applies, checkpatch.pl, 1 file with W=1 and sparse
      note: broken.c: not checked: it does not compile without this patch either
    wrong 0003.patch: applies, checkpatch.pl, 1 file with W=1 and sparse
      driver.c:5: warning: old
      note: broken.c: not checked: it does not compile without this patch either
    checked: 4 patches, 1 complaint
    ");
    let again = fixture.builder.check(&request, &Quiet).unwrap();
    assert_eq!(again, checked);
}

#[test]
fn a_patch_that_does_not_apply_ends_it() {
    let fixture = Fixture::new();
    let stale = change("driver.c", "int other;\nint b;\n", DRIVER);
    let new = change("new.c", "", "int n;\n");
    let checked = check(&fixture, &[&new, &stale, PATCH]);
    insta::assert_snapshot!(told(&checked), @r"
    ok    0000.patch: applies, checkpatch.pl, 2 files with W=1 and sparse
      note: new.c: compiled, but this configuration does not link it into the kernel, and may leave out parts of it
    wrong 0001.patch
      0001.patch: error: does not apply:
        patching file driver.c
        Hunk #1 FAILED at 1.
        1 out of 1 hunk FAILED -- saving rejects to file driver.c.rej
    -     0002.patch
      note: not checked: it comes after one that does not apply
    checked: 3 patches, 1 complaint
    ");
    assert_eq!(checked.complaints(), 1);
    assert!(fixture.cached("driver.c.rej").is_empty());
}

#[test]
fn a_neighbour_that_no_longer_compiles_is_found() {
    let fixture = Fixture::new();
    let tree = fixture.path("tree");
    fs::write(tree.join("Kbuild"), "driver.o\nneighbour.o\n").unwrap();
    fs::write(tree.join("neighbour.c"), "#include \"driver.h\"\n").unwrap();
    fs::write(tree.join("driver.h"), "int a;\n").unwrap();
    fixture.add_stack(
        "checked",
        &[PATCH, &change("driver.h", "int a;\n", "#error a\n")],
    );
    let request = KernelRequest {
        source: Some(tree),
        ..request("checked")
    };
    let checked = fixture.builder.check(&request, &Quiet).unwrap();
    insta::assert_snapshot!(told(&checked), @r"
    ok    0000.patch: applies, checkpatch.pl, 2 files with W=1 and sparse
    wrong 0001.patch: applies, checkpatch.pl, 2 files with W=1 and sparse, kernel-doc of 1 header
      driver.h:1: error: a
    checked: 2 patches, 1 complaint
    ");
}

#[test]
fn builds_go_on_as_if_nothing_had_been_checked() {
    let fixture = Fixture::new();
    let base = fixture.build("base").unwrap();
    let objects = fixture.cached("runs");
    check(
        &fixture,
        &[
            PATCH,
            &change("driver.c", "int a;\nint patched;\n", "int w;\n"),
        ],
    );
    assert_eq!(fixture.cached("runs"), objects);
    assert!(objects[0].parent().unwrap().join("vmlinux").exists());
    fs::remove_file(&base.image).unwrap();
    let again = fixture.build("base").unwrap();
    assert_eq!(fs::read_to_string(again.image).unwrap(), DRIVER);
    // And the other way round, with the tree as the build has left it.
    fixture.build("patched").unwrap();
    assert_eq!(check(&fixture, &[PATCH]).complaints(), 0);
}

#[test]
fn what_cannot_be_checked_is_no_verdict() {
    let fixture = Fixture::new();
    let kind = |fixture: &Fixture, request: &KernelRequest| {
        let error = fixture.builder.check(request, &Quiet).unwrap_err();
        (error.kind(), error.to_string())
    };
    let (user, machine) = (ErrorKind::User, ErrorKind::Infrastructure);

    let (whose, why) = kind(&fixture, &request("base"));
    assert_eq!(whose, user);
    assert!(why.contains("no patches"), "{why}");
    let (whose, why) = kind(&fixture, &request("patched+nonsense"));
    assert_eq!(whose, user);
    assert!(why.contains("there are: lockdep"), "{why}");
    let (whose, why) = kind(&fixture, &request("patched+lockdep+lockdep"));
    assert_eq!(whose, user);
    assert!(why.contains("named twice"), "{why}");

    fixture.add_stack("crash", &[&change("new.c", "", "CRASH\n")]);
    let (whose, why) = kind(&fixture, &request("crash"));
    assert_eq!(whose, machine);
    assert!(
        why.contains("checkpatch.pl failed") && why.contains("Died"),
        "{why}"
    );

    let from_tree = KernelRequest {
        source: Some(fixture.path("tree")),
        ..request("patched")
    };
    fs::write(fixture.path("tree/cannot-prepare"), "").unwrap();
    let (whose, why) = kind(&fixture, &from_tree);
    assert_eq!(whose, user, "{why}");
    assert!(why.contains("make prepare failed"), "{why}");
    fs::remove_file(fixture.path("tree/scripts/checkpatch.pl")).unwrap();
    let (whose, why) = kind(&fixture, &from_tree);
    assert_eq!(whose, user);
    assert!(why.contains("it has no scripts/checkpatch.pl"), "{why}");
}

#[test]
fn perl_is_asked_for_by_name() {
    let mut fixture = Fixture::new();
    let bin = fixture.path("bin");
    fs::remove_file(bin.join("perl")).unwrap();
    // Not the system's either.
    for tool in ["patch", "tar"] {
        fs::copy(bin.join("gcc"), bin.join(tool)).unwrap();
    }
    fixture.builder.tools = Tools::for_tests(bin.clone().into());
    let check = |fixture: &Fixture| fixture.builder.check(&request("patched"), &Quiet);
    let error = check(&fixture).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Infrastructure);
    let text = error.to_string();
    assert!(text.contains("needs perl: apt-get install perl"), "{text}");

    // Debian's perl-base is perl, too.
    symlink("/bin/false", bin.join("perl")).unwrap();
    let error = check(&fixture).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Infrastructure);
    let text = error.to_string();
    assert!(text.contains("Pod::Usage"), "{text}");
    assert!(text.contains("apt-get install perl"), "{text}");
}

#[test]
fn a_script_that_does_not_run_is_no_verdict() {
    let fixture = Fixture::new();
    let script = fixture.path("tree/scripts/kernel-doc");
    fs::write(&script, "#!/bin/sh\necho no python today\nexit 127\n").unwrap();
    let request = KernelRequest {
        source: Some(fixture.path("tree")),
        ..request("patched")
    };
    let error = fixture.builder.check(&request, &Quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Infrastructure);
    let text = error.to_string();
    assert!(
        text.contains("kernel-doc failed") && text.contains("no python"),
        "{text}"
    );
}
