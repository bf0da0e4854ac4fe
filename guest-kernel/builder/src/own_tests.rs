// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Builds of the user's own trees, with fragments of the user's own, and their names.

use std::fs;
use std::process::Command;

use super::tests::{Fixture, PATCH};
use super::*;

impl Fixture {
    /// A build of the source tree.
    fn own(&self, name: Option<&str>, change: impl FnOnce(&mut KernelRequest)) -> Built {
        let mut request = KernelRequest {
            source: Some(self.path("tree")),
            ..KernelRequest::default()
        };
        change(&mut request);
        self.builder.build_named(&request, name, &Quiet)
    }

    fn fragment(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn of_tree(&self) -> OfTree {
        self.builder.of_tree(&self.path("tree"), &Quiet).unwrap()
    }
}

type Built = Result<(Kernel, Option<String>), KernelError>;

#[test]
fn a_stack_may_be_anywhere() {
    let fixture = Fixture::new();
    let dir = fixture.path("my stack");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("series"), "one.patch\n").unwrap();
    fs::write(dir.join("one.patch"), PATCH).unwrap();
    let request = KernelRequest {
        source: Some(fixture.path("tree")),
        ..KernelRequest::of_stack(&dir)
    };
    assert_eq!(request.name(), "my-stack");
    let (kernel, name) = fixture.builder.build_named(&request, None, &Quiet).unwrap();
    assert_eq!(name.as_deref(), Some("tree-my-stack"));
    assert_eq!(kernel.name, "my-stack");
    assert_eq!(kernel.stack, ["one.patch"]);
    assert_eq!(fixture.builder.cached(&request).unwrap(), Some(kernel));
    // What builds it again knows where it is.
    let (named, _) = fixture.builder.named("tree-my-stack").unwrap().unwrap();
    let dir = fs::canonicalize(dir).unwrap();
    assert_eq!(named.request().stack_dir.as_deref(), Some(&*dir));
    // A patch that changes makes another kernel, of the same name.
    fs::write(dir.join("one.patch"), PATCH.to_owned() + "\n").unwrap();
    assert_eq!(fixture.builder.cached(&request).unwrap(), None);
    fs::remove_file(dir.join("one.patch")).unwrap();
    let error = fixture.builder.cached(&request).unwrap_err();
    assert!(error.to_string().contains("one.patch"), "{error}");
}

#[test]
fn a_build_of_a_tree_is_found_by_name_and_by_the_tree() {
    let fixture = Fixture::new();
    assert_eq!(fixture.of_tree(), OfTree::NeverBuilt);
    let (kernel, name) = fixture.own(None, |_| {}).unwrap();
    assert_eq!(name.as_deref(), Some("tree"));
    let (named, found) = fixture.builder.named("tree").unwrap().unwrap();
    assert_eq!(found.as_ref(), Some(&kernel));
    assert_eq!((&*named.patches, &named.hash), ("base", &kernel.hash));
    assert_eq!(fixture.of_tree(), OfTree::Built(Box::new(kernel.clone())));

    fs::write(fixture.path("tree/driver.c"), "int a;\nint b;\nint c;\n").unwrap();
    let changed = fixture.of_tree();
    assert!(
        matches!(&changed, OfTree::Changed(was) if was.name == "tree"),
        "{changed:?}"
    );
    // Under its name it is still what it was.
    let (_, found) = fixture.builder.named("tree").unwrap().unwrap();
    assert_eq!(found, Some(kernel));
    let (other, _) = fixture.own(None, |_| {}).unwrap();
    assert_eq!(fixture.of_tree(), OfTree::Built(Box::new(other.clone())));
    let all = fixture.builder.all_named().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].1, Some(other.clone()));

    // A kernel that the cache has lost leaves a name.
    fs::remove_dir_all(other.image.parent().unwrap()).unwrap();
    assert_eq!(fixture.builder.named("tree").unwrap().unwrap().1, None);
    assert_eq!(fixture.of_tree(), OfTree::NeverBuilt);
}

#[test]
fn a_name_stands_for_one_thing() {
    let fixture = Fixture::new();
    let taken = |name| {
        let error = fixture.own(Some(name), |_| {}).unwrap_err();
        assert!(matches!(error, KernelError::NameTaken { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::User);
    };
    for name in ["base", "patched", "base+lockdep"] {
        taken(name);
    }
    let error = fixture.own(Some("a/b"), |_| {}).unwrap_err();
    assert!(matches!(error, KernelError::BadBuildName { .. }), "{error}");
    assert_eq!(fixture.compilations(), 0);

    fixture.own(None, |_| {}).unwrap();
    // Another tree whose directory has the same name takes it over only if it is told to.
    let other = fixture.path("other/tree");
    fs::create_dir(fixture.path("other")).unwrap();
    fs::rename(fixture.path("tree"), &other).unwrap();
    let of_other = |name| fixture.own(name, |request| request.source = Some(other.clone()));
    let error = of_other(None).unwrap_err();
    assert!(
        error.to_string().contains("it stands for a build of"),
        "{error}"
    );
    of_other(Some("tree")).unwrap();
    let (named, _) = fixture.builder.named("tree").unwrap().unwrap();
    assert_eq!(named.source, fs::canonicalize(&other).unwrap());
    assert!(of_other(Some("mine")).is_ok());
}

#[test]
fn a_fragment_of_the_users_goes_on_top() {
    let fixture = Fixture::new();
    let fragment = fixture.fragment("mine.config", "CONFIG_A=n\nCONFIG_M=y\n");
    let (kernel, name) = fixture
        .own(None, |request| request.fragments = vec![fragment.clone()])
        .unwrap();
    assert_eq!(name.as_deref(), Some("tree+mine"));
    // It overrides the base's `CONFIG_A=y`, which then is nothing to be told.
    assert!(
        kernel.unmet_options.is_empty(),
        "{:?}",
        kernel.unmet_options
    );
    let config = fs::read_to_string(&kernel.config).unwrap();
    assert_eq!(Kconfig::parse(&config).setting("CONFIG_A"), Setting::Off);
    let (named, _) = fixture.builder.named("tree+mine").unwrap().unwrap();
    assert_eq!(named.fragments, [fragment.canonicalize().unwrap()]);
    assert_ne!(fixture.own(None, |_| {}).unwrap().0.hash, kernel.hash);

    // Of the usual source, it has a name, too.
    let of_usual = fixture.own(None, |request| {
        request.source = None;
        request.fragments = vec![fragment];
    });
    assert_eq!(of_usual.unwrap().1.as_deref(), Some("base+mine"));
}

#[test]
fn a_series_has_patches_for_some_versions() {
    let fixture = Fixture::new();
    let series = fixture.path("guest-kernel/stacks/both/series");
    fixture.add_stack("both", &[PATCH, PATCH]);
    fs::write(
        series,
        "0000.patch # before 6.13\n0001.patch # since 6.13\n",
    )
    .unwrap();
    let both = |fixture: &Fixture| fixture.own(None, |request| request.stack = "both".into());
    // Only who has such patches needs to know.
    let error = both(&fixture).unwrap_err();
    assert!(error.to_string().contains("which version it is"), "{error}");
    fixture.own(None, |_| {}).unwrap();
    for (version, patch) in [
        ("6\nPATCHLEVEL = 12", "0000.patch"),
        ("7\nPATCHLEVEL = 0", "0001.patch"),
    ] {
        let makefile = format!("VERSION = {version}\n");
        fs::write(fixture.path("tree/Makefile"), makefile).unwrap();
        assert_eq!(both(&fixture).unwrap().0.stack, [patch]);
    }
    // An archive is looked into, once.
    let archive = fixture.path("new.tar");
    let mut tar = Command::new("tar");
    tar.arg("--create")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(fixture.path(""));
    assert!(tar.arg("tree").status().unwrap().success());
    let of_archive = fixture.own(None, |request| {
        request.stack = "both".into();
        request.source = Some(archive);
    });
    assert_eq!(of_archive.unwrap().0.stack, ["0001.patch"]);
}

#[test]
fn a_configuration_has_more_for_later_versions() {
    let fixture = Fixture::new();
    let add = |name: &str, text: &str| {
        fs::write(fixture.path("guest-kernel/config").join(name), text).unwrap();
    };
    let built = |version: &str| {
        let makefile = format!("VERSION = {version}\n");
        fs::write(fixture.path("tree/Makefile"), makefile).unwrap();
        let kernel = fixture.own(None, |_| {}).unwrap().0;
        fs::read_to_string(kernel.config).unwrap()
    };
    let before = built("6\nPATCHLEVEL = 18");
    add("staleline.since-6.19.config", "CONFIG_A=2\n");
    add("staleline.since-7.2.config", "CONFIG_A=3\n");
    add("lockdep.since-6.1.config", "CONFIG_A=4\n");
    assert_eq!(built("6\nPATCHLEVEL = 18"), before);
    for (version, a) in [("6\nPATCHLEVEL = 19", "2"), ("7\nPATCHLEVEL = 3", "3")] {
        let config = Kconfig::parse(&built(version));
        assert_eq!(config.setting("CONFIG_A"), Setting::Value(a));
    }
    assert_eq!(fixture.builder.configs().unwrap(), ["lockdep"]);
}

#[test]
fn what_a_fragment_asks_for_in_vain_is_an_error() {
    let fixture = Fixture::new();
    fs::write(
        fixture.path("tree/Kconfig"),
        "without CONFIG_NEW\nwithout CONFIG_A\n",
    )
    .unwrap();
    let fragment = fixture.fragment("mine.config", "CONFIG_M=y\nCONFIG_NEW=y\n");
    let error = fixture
        .own(None, |request| request.fragments = vec![fragment.clone()])
        .unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("mine.config: CONFIG_NEW=y is not there"),
        "{told}"
    );
    assert!(!told.contains("CONFIG_M"), "{told}");
    assert_eq!((error.kind(), fixture.compilations()), (ErrorKind::User, 0));
    // What our own configuration asks for in vain is a note.
    let (kernel, _) = fixture.own(None, |_| {}).unwrap();
    assert_eq!(kernel.unmet_options, ["CONFIG_A=y"]);

    let request = KernelRequest {
        source: Some(fixture.path("tree")),
        fragments: vec![fragment],
        ..KernelRequest::named("patched")
    };
    let error = fixture.builder.check(&request, &Quiet).unwrap_err();
    assert!(error.to_string().contains("CONFIG_NEW=y"), "{error}");
}
