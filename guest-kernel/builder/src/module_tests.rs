// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Builds of modules with a stand-in for make.

use staleline_support::progress::Quiet;

use super::super::tests::Fixture;
use super::*;

fn userland(stack: &str) -> KernelRequest {
    KernelRequest::named(&format!("{stack}+userland"))
}

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let config = fixture.path("guest-kernel/config/userland.config");
    fs::write(config, "CONFIG_MODULES=y\n").unwrap();
    let own = fixture.path("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("Kbuild"), "obj-m += b.o\nobj-m += a.o\n").unwrap();
    for name in ["a.c", "b.c"] {
        fs::write(own.join(name), "int own;\n").unwrap();
    }
    fixture
}

#[test]
fn modules_are_built_against_their_own_kernel_which_is_prepared_once() {
    let fixture = fixture();
    let own = fixture.path("own");
    let build = |stack| {
        let built = fixture
            .builder
            .build_modules(&userland(stack), &own, &Quiet);
        let built = built.unwrap();
        let names = [own.join("a.ko"), own.join("b.ko")];
        let names = names.map(|name| fs::canonicalize(name).unwrap());
        assert_eq!(built.files, names);
        fs::read_to_string(&built.files[0]).unwrap()
    };
    let prepared = || {
        let files = fixture.cached("prepared");
        let lines = files
            .iter()
            .map(|f| fs::read_to_string(f).unwrap().lines().count());
        lines.sum::<usize>()
    };
    assert_eq!(build("base"), "int own;\nint a;\nint b;\n");
    assert_eq!(build("base"), "int own;\nint a;\nint b;\n");
    assert_eq!(prepared(), 1);
    // Another kernel in the same directory of objects.
    assert_eq!(build("patched"), "int own;\nint a;\nint patched;\n");
    assert_eq!(build("base"), "int own;\nint a;\nint b;\n");
    assert_eq!(prepared(), 3);
    // And one that was built for its own sake.
    fixture.add_stack("third", &[super::super::tests::PATCH]);
    let third = fixture.builder.build(&userland("third"), &Quiet).unwrap();
    assert_eq!(build("base"), "int own;\nint a;\nint b;\n");
    assert_eq!(prepared(), 4);
    // Nothing of the objects is needed; of a kernel that has no symbols beside it, they are.
    for dir in fixture.cached("staleline.fragment") {
        fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }
    let runs = || fixture.cached("runs").len();
    assert_eq!(build("third"), "int own;\nint a;\nint patched;\n");
    assert_eq!(runs(), 0);
    fs::remove_file(third.image.with_file_name(SYMBOLS)).unwrap();
    assert_eq!(build("third"), "int own;\nint a;\nint patched;\n");
    assert_eq!(runs(), 1);
}

#[test]
fn what_cannot_be_built_is_told() {
    let fixture = fixture();
    let fails = |kernel: &str, dir: &str| {
        let request = KernelRequest::named(kernel);
        let built = fixture
            .builder
            .build_modules(&request, &fixture.path(dir), &Quiet);
        let e = built.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::User, "{e}");
        e.to_string()
    };
    assert!(fails("base", "own").contains("no CONFIG_MODULES"));
    assert!(fails("base+userland", "none").contains("No such file"));
    assert!(fails("base+userland", "own/a.c").contains("no directory"));
    fs::create_dir(fixture.path("a b")).unwrap();
    assert!(fails("base+userland", "a b").contains("spaces"));
    fs::create_dir(fixture.path("empty")).unwrap();
    assert!(fails("base+userland", "empty").contains("obj-m"));
    fs::write(fixture.path("empty/Makefile"), "all:\n").unwrap();
    assert!(fails("base+userland", "empty").contains("obj-m"));
    fs::write(fixture.path("own/a.c"), "#error no\n").unwrap();
    let told = fails("base+userland", "own");
    assert!(told.contains("make M=... modules failed"), "{told}");
    let (first, log) = told.split_once("the whole log is").unwrap();
    assert!(first.contains("a.c:1:2: error: #error no"), "{told}");
    assert!(!first.contains("***"), "{told}");
    assert!(log.trim().ends_with("module.log"), "{told}");
    fs::write(fixture.path("own/Kbuild"), "# obj-m\nobj-y := x\n").unwrap();
    assert!(fails("base+userland", "own").contains("no .ko file"));
}

#[test]
fn modules_of_a_build_with_a_name_are_for_what_is_run_under_it() {
    let fixture = fixture();
    let own = fixture.path("own");
    let fragment = fixture.path("mine.config");
    fs::write(&fragment, "CONFIG_MODULES=y\n").unwrap();
    let request = KernelRequest {
        source: Some(fixture.path("tree")),
        fragments: vec![fragment.clone()],
        ..KernelRequest::default()
    };
    // A fragment is enough; and one can take away what a configuration has.
    assert!(fixture.builder.has_modules(&request).unwrap());
    let built = fixture.builder.build_named(&request, Some("mine"), &Quiet);
    let kernel = built.unwrap().0;
    let build = || {
        let (named, _) = fixture.builder.named("mine").unwrap().unwrap();
        fixture.builder.build_modules_of(&named, &own, &Quiet)
    };
    assert_eq!(build().unwrap().kernel, kernel);
    let off = "# CONFIG_MODULES is not set\n";
    fs::write(&fragment, off).unwrap();
    let without = KernelRequest {
        fragments: vec![fragment.clone()],
        ..userland("base")
    };
    assert!(!fixture.builder.has_modules(&without).unwrap());
    assert!(
        build()
            .unwrap_err()
            .to_string()
            .contains("`mine` has no CONFIG_MODULES")
    );
    // Another kernel, and nobody's module is built for that by mistake.
    fs::write(&fragment, "CONFIG_MODULES=y\nCONFIG_X=y\n").unwrap();
    let told = build().unwrap_err();
    assert_eq!(told.kind(), ErrorKind::User);
    assert!(
        told.to_string()
            .starts_with("patches, configuration, fragments"),
        "{told}"
    );
    fs::write(&fragment, "CONFIG_MODULES=y\n").unwrap();
    assert_eq!(build().unwrap().kernel, kernel);
    fs::write(fixture.path("tree/driver.c"), "int other;\n").unwrap();
    let told = build().unwrap_err().to_string();
    assert!(
        told.contains("/tree has changed since it was built"),
        "{told}"
    );
    assert!(told.contains("run as `mine`"), "{told}");
}
