// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernels of the user's own: builds with names, source trees, fragments, and what a run needs of them.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::place::Place;

const BUILD: &[&str] = &["kernel", "build", "--src", "tree"];

impl Place {
    /// What a run of a kernel comes to, and its directory's name. Without QEMU none gets further than an
    /// infrastructure error, which says that the kernel was found and is good.
    fn runs(&self, kernel: &str, more: &[&str]) -> (i32, String) {
        let words = [
            &["run", "iio-capture", "--kernel", kernel, "--out", "out"],
            more,
        ]
        .concat();
        let (code, _, error) = self.told(&words);
        let _ = fs::remove_dir_all(self.path("out"));
        (code, error)
    }

    /// Options as base has them, in the source tree's configuration.
    fn configure_as_base(&self) {
        let base =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-kernel/config/staleline.config");
        fs::copy(base, self.path("guest-kernel/config/staleline.config")).unwrap();
    }
}

#[test]
fn a_tree_that_was_built_is_run_by_name_and_by_path() {
    let place = Place::new();
    place.configure_as_base();
    let (code, told) = place.runs("./tree", &[]);
    assert_eq!(code, 2, "{told}");
    assert!(
        told.contains("it is a source tree in which no arch/arm64/boot/Image"),
        "{told}"
    );
    assert!(
        told.contains("staleline kernel build --src ./tree"),
        "{told}"
    );

    let (code, told, error) = place.told(BUILD);
    assert_eq!(code, 0, "{error}");
    assert!(told.starts_with("tree 6.12.0 "), "{told}");
    for kernel in ["tree", "./tree"] {
        let (code, told) = place.runs(kernel, &[]);
        assert_eq!(code, 3, "{kernel}: {told}");
    }
    let (_, list, _) = place.told(&["kernel", "list"]);
    let own = list.split("builds of your own:\n").nth(1).unwrap();
    assert!(
        own.starts_with("tree                        6.12.0\n    base of /"),
        "{list}"
    );
    assert!(own.contains("/tree, 20"), "{list}");

    place.write("tree/driver.c", "int other;\n");
    let (code, told) = place.runs("./tree", &[]);
    assert_eq!(code, 2, "{told}");
    assert!(
        told.contains("it has changed since it was built as `tree`"),
        "{told}"
    );
    assert!(
        told.contains("/tree --name tree; what it was then is `--kernel tree`"),
        "{told}"
    );
    assert_eq!(place.runs("tree", &[]).0, 3);
    assert_eq!(place.told(BUILD).0, 0);
    assert_eq!(place.runs("./tree", &[]).0, 3);
}

/// Whichever is newer is meant by the tree.
#[test]
fn a_tree_that_was_built_in_place_has_its_image() {
    let place = Place::new();
    place.configure_as_base();
    assert_eq!(place.told(BUILD).0, 0);
    let mut image = vec![0; 64];
    image[56..60].copy_from_slice(b"ARM\x64");
    let path = place.path("tree/arch/arm64/boot/Image");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, image).unwrap();
    place.write("tree/.config", "CONFIG_IIO=y\n");
    let file = fs::File::options().write(true).open(&path).unwrap();
    let hour = Duration::from_secs(3600);
    file.set_modified(SystemTime::now() + hour).unwrap();
    let (code, told) = place.runs("./tree", &[]);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("tree/.config"), "{told}");
    file.set_modified(SystemTime::now() - hour).unwrap();
    let (code, told) = place.runs("./tree", &[]);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("it has changed since it was built"), "{told}");
    fs::remove_dir_all(place.path("tree/arch/arm64/boot")).unwrap();
    assert_eq!(place.runs("./tree", &[]).0, 3);
}

#[test]
fn a_build_can_be_given_a_name() {
    let place = Place::new();
    place.configure_as_base();
    let named = |name: &str| place.told(&[BUILD, &["--stack", "good", "--name", name]].concat());
    for (name, why) in [
        ("good", "kernels of that name are built of a patch stack"),
        (
            "base+lockdep",
            "kernels of that name are built of a patch stack",
        ),
        ("a/b", "cannot be the name of a build"),
    ] {
        let (code, _, error) = named(name);
        assert_eq!(code, 2, "{error}");
        assert!(
            error.contains(why) && error.contains("--name NAME"),
            "{error}"
        );
    }
    let (code, told, error) = named("mine");
    assert_eq!(code, 0, "{error}");
    assert!(told.starts_with("mine 6.12.0-good "), "{told}");
    assert_eq!(place.runs("mine", &[]).0, 3);
    let (code, told) = place.runs("mini", &[]);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("did you mean `mine`?"), "{told}");
    assert!(told.contains("builds of your own: mine"), "{told}");
    // What lies here under a name that is none.
    let (_, told) = place.runs("tree", &[]);
    assert!(
        told.contains("what is here under that name is `./tree`"),
        "{told}"
    );
    let (_, list, _) = place.told(&["kernel", "list", "--format", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let mine = list
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "mine");
    assert_eq!(mine.unwrap()["build"]["patches"], "good");
}

#[test]
fn a_fragment_counts_or_is_an_error() {
    let place = Place::new();
    place.write("tree/Kconfig", "without CONFIG_NEW\n");
    place.write("mine.config", "CONFIG_NEW=y\n");
    place.write("fine.config", "CONFIG_FINE=y\n");
    place.write("typo.config", "NEW=y\n");
    let with = |command: &str, stack: &str, fragment: &str| {
        let words = [
            "kernel",
            command,
            "--src",
            "tree",
            "--stack",
            stack,
            "--fragment",
            fragment,
        ];
        place.told(&words)
    };
    for (command, fragment, why) in [
        (
            "build",
            "mine.config",
            "mine.config: CONFIG_NEW=y is not there",
        ),
        (
            "check",
            "mine.config",
            "mine.config: CONFIG_NEW=y is not there",
        ),
        ("build", "typo.config", "typo.config:1: this is no setting"),
        ("build", "none.config", "none.config"),
    ] {
        let (code, _, error) = with(command, "good", fragment);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(why), "{error}");
    }
    let (code, told, error) = with("build", "base", "fine.config");
    assert_eq!(code, 0, "{error}");
    assert!(told.starts_with("tree+fine "), "{told}");
    assert_eq!(with("check", "good", "fine.config").0, 0);
}

/// As with a source of another version.
#[test]
fn a_patch_that_does_not_apply_is_told_with_its_place() {
    let place = Place::new();
    place.write("tree/driver.c", "int other;\n");
    let (code, _, error) = place.told(&[BUILD, &["--stack", "good"]].concat());
    assert_eq!(code, 2, "{error}");
    for told in [
        "good.patch of stack `good` does not apply to tree sha256:",
        "patching file driver.c",
        "Hunk #1 FAILED at 1",
        "help: the stack is for another version of the source",
    ] {
        assert!(error.contains(told), "{error}");
    }
    let (code, told, _) = place.checks(&["--stack", "good"]);
    assert_eq!(code, 1);
    assert!(told.contains("Hunk #1 FAILED at 1"), "{told}");
}

#[test]
fn a_kernel_that_lacks_what_the_run_needs_is_not_booted() {
    let place = Place::new();
    place.configure_as_base();
    place.write(
        "less.config",
        "CONFIG_AXI_DMAC=n\nCONFIG_AD9467=m\nCONFIG_USB_GADGET=n\n",
    );
    let build = [BUILD, &["--fragment", "less.config", "--name", "less"]].concat();
    let (code, _, error) = place.told(&build);
    assert_eq!(code, 0, "{error}");
    let (code, told) = place.runs("less", &[]);
    assert_eq!(code, 2, "{told}");
    assert!(
        told.contains("kernel `less` lacks what iio-capture needs"),
        "{told}"
    );
    assert!(
        told.contains("\n  CONFIG_AXI_DMAC=y, for the driver of axi-dmac-rx\n"),
        "{told}"
    );
    assert!(told.contains("CONFIG_AD9467=y (it is a module"), "{told}");
    assert!(!told.contains("USB_GADGET"), "{told}");
    assert!(!place.path("out").exists());
    let (code, _, error) = place.told(&["run", "boot", "--kernel", "less", "--out", "out"]);
    assert_eq!(code, 3, "{error}");
}

#[test]
fn a_build_directory_is_looked_at_too() {
    let place = Place::new();
    let mut image = vec![0; 64];
    image[56..60].copy_from_slice(b"ARM\x64");
    fs::create_dir_all(place.path("build/arch/arm64/boot")).unwrap();
    fs::write(place.path("build/arch/arm64/boot/Image"), image).unwrap();
    // Without a configuration nobody knows.
    let (code, told) = place.runs("./build", &[]);
    assert_eq!(code, 3, "{told}");
    place.write(
        "build/.config",
        "CONFIG_IIO=y\n# CONFIG_AXI_DMAC is not set\n",
    );
    for kernel in ["./build", "build/arch/arm64/boot/Image"] {
        let (code, told) = place.runs(kernel, &[]);
        assert_eq!(code, 2, "{told}");
        assert!(told.contains("CONFIG_AXI_DMAC=y"), "{told}");
        assert!(told.contains("by its configuration "), "{told}");
        assert!(told.contains("build/.config:"), "{told}");
    }
}

#[test]
fn what_would_break_the_run_is_not_appended() {
    let place = Place::new();
    for (append, why) in [
        ("console=tty0", "`console=tty0` is refused"),
        ("rdinit=/bin/sh", "the agent is the guest's init"),
        (&"x".repeat(2000), "at most 1536"),
    ] {
        let (code, told) = place.runs("base", &["--append", append]);
        assert_eq!(code, 2, "{told}");
        assert!(told.contains(why), "{told}");
        let (code, _, error) = place.told(&["matrix", "--list", "--append", append]);
        assert_eq!(code, 2, "{error}");
    }
    assert_eq!(
        place
            .told(&["matrix", "--list", "--append", "loglevel=8"])
            .0,
        0
    );
}

/// Those of the kernel that is run under that name.
#[test]
fn modules_are_built_for_trees_by_name_and_by_path() {
    let place = Place::new();
    place.configure_as_base();
    place.write("own/Kbuild", "obj-m += a.o\n");
    place.write("own/a.c", "int own;\n");
    place.write("modules.config", "CONFIG_MODULES=y\n");
    let fails = |kernel: &str, says: &[&str]| {
        let (code, _, error) = place.told(&["module", "build", "own", "--kernel", kernel]);
        assert_eq!(code, 2, "{error}");
        for says in says {
            assert!(error.contains(says), "{says}: {error}");
        }
    };
    fails(
        "./tree",
        &[
            "nor is there a build of it",
            "staleline kernel build --src ./tree",
        ],
    );
    fails("tree", &["tree"]);
    assert_eq!(place.told(BUILD).0, 0);
    for kernel in ["tree", "./tree"] {
        fails(
            kernel,
            &[
                "no CONFIG_MODULES",
                "--config userland, or with CONFIG_MODULES=y in a --fragment",
            ],
        );
    }
    let again = [BUILD, &["--fragment", "modules.config", "--name", "tree"]].concat();
    let (code, _, error) = place.told(&again);
    assert_eq!(code, 0, "{error}");
    for kernel in ["tree", "./tree"] {
        let (code, told, error) = place.told(&["module", "build", "own", "--kernel", kernel]);
        assert_eq!(code, 0, "{error}");
        assert!(told.ends_with("/own/a.ko\n"), "{told}");
    }
    place.write("tree/driver.c", "int other;\n");
    let build = "staleline kernel build --src ";
    fails(
        "tree",
        &[
            "/tree has changed since it was built",
            "run as `tree`",
            build,
            "--name tree",
        ],
    );
    fails(
        "./tree",
        &["it has changed since it was built as `tree`", build],
    );
    assert_eq!(place.told(&again).0, 0);
    assert_eq!(
        place
            .told(&["module", "build", "own", "--kernel", "tree"])
            .0,
        0
    );
}
