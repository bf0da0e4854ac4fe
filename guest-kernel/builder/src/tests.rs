// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whole builds of a tiny source tree with a stand-in for make.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::tools::Tools;
use super::*;

const TOOLS: &[&str] = &[
    "aarch64-linux-gnu-gcc",
    "aarch64-linux-gnu-ld",
    "gcc",
    "flex",
    "bison",
    "bc",
];

/// Changes `driver.c`, adds `extra.c`.
pub(super) const PATCH: &str = "\
--- a/driver.c
+++ b/driver.c
@@ -1,2 +1,2 @@
 int a;
-int b;
+int patched;
--- /dev/null
+++ b/sub/extra.c
@@ -0,0 +1 @@
+int extra;
";

pub(super) struct Fixture {
    dir: TempDir,
    pub(super) builder: KernelBuilder,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);

        let bin = path("bin");
        fs::create_dir(&bin).unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        for tool in TOOLS {
            symlink(data.join("tool"), bin.join(tool)).unwrap();
        }
        for tool in ["make", "perl"] {
            symlink(data.join(tool), bin.join(tool)).unwrap();
        }

        let tree = path("tree");
        fs::create_dir_all(tree.join("arch/arm64")).unwrap();
        fs::create_dir(tree.join("scripts")).unwrap();
        for script in ["checkpatch.pl", "kernel-doc"] {
            fs::copy(data.join(script), tree.join("scripts").join(script)).unwrap();
        }
        for (name, text) in [
            ("Makefile", ""),
            ("Kconfig", ""),
            ("arch/arm64/Kconfig", ""),
            ("driver.c", "int a;\nint b;\n"),
            ("Kbuild", "driver.o\n"),
        ] {
            fs::write(tree.join(name), text).unwrap();
        }
        let archive = path("linux-source-6.12.tar");
        let status = Command::new("tar")
            .args(["--create", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(dir.path())
            .arg("tree")
            .status()
            .unwrap();
        assert!(status.success());

        let guest = path("guest-kernel");
        fs::create_dir_all(guest.join("config")).unwrap();
        fs::write(
            guest.join("config/staleline.config"),
            "CONFIG_A=y\nCONFIG_B=n\n",
        )
        .unwrap();
        fs::write(guest.join("config/lockdep.config"), "CONFIG_LOCKDEP=y\n").unwrap();

        let mut builder =
            KernelBuilder::with_directories_for_tests(&guest, CacheDir::at(path("cache")), archive);
        let system = "/usr/local/bin:/usr/bin:/bin";
        builder.tools = Tools::for_tests(format!("{}:{system}", bin.display()).into());
        let fixture = Self { dir, builder };
        fixture.add_stack("base", &[]);
        fixture.add_stack("patched", &[PATCH]);
        fixture
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn add_stack(&self, name: &str, patches: &[&str]) {
        let dir = self.path("guest-kernel/stacks").join(name);
        fs::create_dir_all(&dir).unwrap();
        let mut series = String::new();
        for (index, patch) in patches.iter().enumerate() {
            let file = format!("{index:04}.patch");
            fs::write(dir.join(&file), patch).unwrap();
            series.push_str(&file);
            series.push('\n');
        }
        fs::write(dir.join("series"), series).unwrap();
    }

    pub(super) fn build(&self, stack: &str) -> Result<Kernel, KernelError> {
        self.builder.build(&request(stack), &Quiet)
    }

    /// Files below the cache with this name.
    pub(super) fn cached(&self, name: &str) -> Vec<PathBuf> {
        walkdir::WalkDir::new(self.path("cache"))
            .into_iter()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name() == name)
            .map(walkdir::DirEntry::into_path)
            .collect()
    }

    pub(super) fn compilations(&self) -> usize {
        self.cached("runs")
            .iter()
            .map(|file| fs::read_to_string(file).unwrap().lines().count())
            .sum()
    }
}

fn request(stack: &str) -> KernelRequest {
    KernelRequest {
        stack: stack.to_owned(),
        ..KernelRequest::default()
    }
}

fn image(kernel: &Kernel) -> String {
    fs::read_to_string(&kernel.image).unwrap()
}

#[test]
fn stacks_share_a_tree_and_kernels_are_built_once() {
    let fixture = Fixture::new();
    let base = fixture.build("base").unwrap();
    let patched = fixture.build("patched").unwrap();
    assert_eq!(image(&base), "int a;\nint b;\n");
    assert_eq!(image(&patched), "int a;\nint patched;\n");
    assert_eq!(base.version, "6.12.0");
    assert_eq!(patched.version, "6.12.0-patched");
    assert_eq!(patched.stack, ["0000.patch"]);
    assert_eq!(fixture.cached("src").len(), 1);

    assert_eq!(fixture.build("base").unwrap(), base);
    assert_eq!(fixture.compilations(), 2);
    assert_eq!(fixture.builder.list().unwrap(), [base, patched]);
    assert!(fixture.cached("lock").len() == 1);
}

#[test]
fn additional_configurations_make_other_kernels() {
    let fixture = Fixture::new();
    let base = fixture.build("base").unwrap();
    let request = KernelRequest {
        configs: vec!["lockdep".to_owned()],
        ..request("base")
    };
    let other = fixture.builder.build(&request, &Quiet).unwrap();
    assert_eq!(other.name, "base+lockdep");
    assert_ne!(other.hash, base.hash);
    assert!(
        fs::read_to_string(&other.config)
            .unwrap()
            .contains("CONFIG_LOCKDEP=y")
    );
    assert!(other.unmet_options.is_empty());

    let request = KernelRequest {
        configs: vec!["../secret".to_owned()],
        ..self::request("base")
    };
    assert!(matches!(
        fixture.builder.cached(&request),
        Err(KernelError::BadName { .. })
    ));
}

#[test]
fn a_failed_build_is_reported_and_not_kept() {
    let fixture = Fixture::new();
    fixture.add_stack(
        "broken",
        &["--- a/driver.c\n+++ b/driver.c\n@@ -1,2 +1,2 @@\n int a;\n-int b;\n+#error wrong\n"],
    );
    let error = fixture.build("broken").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    let KernelError::BuildFailed { log, tail, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(tail.contains("#error wrong"), "{tail}");
    assert!(fs::read_to_string(log).unwrap().contains("#error wrong"));
    assert_eq!(fixture.builder.list().unwrap(), []);
    assert_eq!(image(&fixture.build("base").unwrap()), "int a;\nint b;\n");
}

#[test]
fn the_source_of_a_finished_kernel_is_where_it_was_unpacked() {
    let fixture = Fixture::new();
    let kernel = fixture.build("base").unwrap();
    let tree = fixture.builder.unpacked(&kernel.hash).unwrap();
    assert_eq!(std::slice::from_ref(&tree), &fixture.cached("src")[..]);
    assert!(tree.join("driver.c").is_file());
    assert_eq!(fixture.builder.unpacked("none"), None);
    fs::remove_dir_all(&tree).unwrap();
    assert_eq!(fixture.builder.unpacked(&kernel.hash), None);
}

#[test]
fn a_patch_that_does_not_apply_harms_nothing() {
    let fixture = Fixture::new();
    let wrong = PATCH.replace("-int b;", "-int other;");
    fixture.add_stack("wrong", &[&wrong]);
    let error = fixture.build("wrong").unwrap_err();
    assert!(matches!(&error, KernelError::PatchRejected { patch, .. } if patch == "0000.patch"));
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(fixture.cached("driver.c.rej").is_empty());
    assert_eq!(
        image(&fixture.build("patched").unwrap()),
        "int a;\nint patched;\n"
    );
}

#[test]
fn incomplete_cache_entries_are_built_again() {
    let fixture = Fixture::new();
    let base = fixture.build("base").unwrap();
    fs::remove_file(&base.vmlinux).unwrap();
    assert_eq!(fixture.builder.list().unwrap(), []);
    assert_eq!(fixture.build("base").unwrap(), base);
    assert!(base.vmlinux.is_file());
    let record = base.image.with_file_name("kernel.json");
    fs::write(&record, "{").unwrap();
    assert_eq!(fixture.build("base").unwrap(), base);
    // Without a hash nothing says that the image is the one that was built.
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    assert!(json["image_hash"].is_string());
    json.as_object_mut().unwrap().remove("image_hash");
    fs::write(&record, json.to_string()).unwrap();
    assert_eq!(fixture.builder.list().unwrap(), []);
    assert_eq!(fixture.build("base").unwrap(), base);
}

#[test]
fn an_edited_source_tree_is_never_written_and_always_noticed() {
    let fixture = Fixture::new();
    let tree = fixture.path("tree");
    let request = KernelRequest {
        source: Some(tree.clone()),
        ..request("patched")
    };
    let build = || fixture.builder.build(&request, &Quiet);
    let first = build().unwrap();
    assert_eq!(image(&first), "int a;\nint patched;\n");

    fs::write(tree.join("driver.c"), "int z;\nint a;\nint b;\n").unwrap();
    fs::write(tree.join("new.c"), "").unwrap();
    let second = build().unwrap();
    assert_eq!(image(&second), "int z;\nint a;\nint patched;\n");
    assert_ne!(second.hash, first.hash);
    assert_eq!(fixture.cached("new.c").len(), 1);

    fs::remove_file(tree.join("new.c")).unwrap();
    build().unwrap();
    assert!(fixture.cached("new.c").is_empty());
    assert_eq!(
        fs::read_to_string(tree.join("driver.c")).unwrap(),
        "int z;\nint a;\nint b;\n"
    );
    assert!(!tree.join("sub").exists());
}

/// As where a CI job keeps it in its checkout. What only has its name is source.
#[test]
fn a_cache_in_the_source_tree_is_no_source() {
    let mut fixture = Fixture::new();
    let tree = fixture.path("tree");
    let request = KernelRequest {
        source: Some(tree.clone()),
        ..request("base")
    };
    let elsewhere = fixture.builder.build(&request, &Quiet).unwrap();

    symlink(&tree, fixture.path("link")).unwrap();
    let cache = CacheDir::at(fixture.path("link/kept/staleline"));
    fixture.builder.cache = Cache::new(cache);
    fs::create_dir_all(tree.join("lib/kept/staleline")).unwrap();
    for _ in 0..2 {
        let kernel = fixture.builder.build(&request, &Quiet).unwrap();
        assert_eq!(kernel.hash, elsewhere.hash);
        // The next is built where this one was.
        fs::remove_dir_all(kernel.image.parent().unwrap()).unwrap();
    }
    assert!(tree.join("kept/staleline/manifests").is_dir());
    fs::write(tree.join("lib/kept/staleline/extra.c"), "").unwrap();
    let other = fixture.builder.plan(&request, &Quiet).unwrap();
    assert_ne!(other.hash, elsewhere.hash);
}

#[test]
fn the_archive_is_hashed_once_and_again_when_it_changes() {
    let fixture = Fixture::new();
    let hash = |fixture: &Fixture| fixture.builder.plan(&request("base"), &Quiet).unwrap().hash;
    let first = hash(&fixture);
    let memo = fixture.path("cache/sources.json");
    let planted = fs::read_to_string(&memo)
        .unwrap()
        .replace("\"answer\": \"", "\"answer\": \"00");
    fs::write(&memo, planted).unwrap();
    let from_memo = hash(&fixture);
    assert_ne!(from_memo, first, "the memo was not used");

    let archive = fs::File::options()
        .append(true)
        .open(fixture.path("linux-source-6.12.tar"))
        .unwrap();
    archive
        .set_modified(SystemTime::now() + Duration::from_secs(5))
        .unwrap();
    assert_eq!(hash(&fixture), first, "a new time must mean a new hash");
}

/// What a script says may depend on anything.
#[test]
fn a_compiler_is_asked_once_unless_it_is_a_script() {
    let mut fixture = Fixture::new();
    let bin = fixture.path("bin");
    let asked = |fixture: &Fixture| fixture.builder.tools.toolchain(&fixture.builder.cache);
    asked(&fixture).unwrap();
    let memo = fixture.path("cache/tools.json");
    assert!(!memo.exists(), "the fixture's compilers are scripts");
    // Any program will do that has a version.
    let own = bin.join("aarch64-linux-gnu-ld");
    fs::remove_file(&own).unwrap();
    fs::copy("/bin/true", &own).unwrap();
    fixture.builder.tools = Tools::for_tests(bin.into());
    let first = asked(&fixture).unwrap();
    let planted = fs::read_to_string(&memo)
        .unwrap()
        .replace("true", "planted");
    fs::write(&memo, planted).unwrap();
    let again = asked(&fixture).unwrap();
    assert_eq!(again, first.replace("true", "planted"));
    assert_ne!(again, first);
}

#[test]
fn the_hash_covers_everything_that_goes_in() {
    let fixture = Fixture::new();
    let stack = |name: &str| Stack::load(&fixture.path("guest-kernel/stacks"), name).unwrap();
    let source = |digest: &str| Source::Archive {
        path: "/x.tar".into(),
        digest: digest.to_owned(),
    };
    let hash = |stack, config: &str, toolchain: &str, digest, extra: &[&str]| {
        let stack: Stack = stack;
        let request = KernelRequest {
            stack: stack.name.clone(),
            configs: extra.iter().map(|&name| name.to_owned()).collect(),
            ..KernelRequest::default()
        };
        Plan::new(
            request.name(),
            stack,
            (config.to_owned(), Vec::new()),
            toolchain.to_owned(),
            source(digest),
        )
        .hash
    };
    fixture.add_stack("two", &[PATCH, "--- a/q\n+++ b/q\n@@ -1 +1 @@\n-a\n+b\n"]);
    let mut swapped = stack("two");
    swapped.patches.swap(0, 1);
    let mut edited = stack("two");
    edited.patches[1].text.push(' ');
    let mut renamed = stack("two");
    renamed.name = "three".to_owned();
    let hashes = [
        hash(stack("two"), "c", "gcc", "1", &[]),
        hash(swapped, "c", "gcc", "1", &[]),
        hash(edited, "c", "gcc", "1", &[]),
        hash(renamed, "c", "gcc", "1", &[]),
        hash(stack("two"), "d", "gcc", "1", &[]),
        hash(stack("two"), "c", "clang", "1", &[]),
        hash(stack("two"), "c", "gcc", "2", &[]),
        hash(stack("two"), "c", "gcc", "1", &["x"]),
        hash(stack("two"), "cg", "cc", "1", &[]),
    ];
    assert_eq!(hash(stack("two"), "c", "gcc", "1", &[]), hashes[0]);
    for (index, one) in hashes.iter().enumerate() {
        assert!(
            !hashes[index + 1..].contains(one),
            "variant {index} is not told apart"
        );
    }
}

#[test]
fn missing_programs_and_sources_name_their_packages() {
    let mut fixture = Fixture::new();
    fs::remove_file(fixture.path("bin/make")).unwrap();
    fs::remove_file(fixture.path("bin/flex")).unwrap();
    let bin = fixture.path("bin");
    fixture.builder.tools = Tools::for_tests(bin.into());
    let error = fixture.build("base").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Infrastructure);
    let text = error.to_string();
    assert!(
        text.contains("make, patch, flex, tar: apt-get install flex make patch tar"),
        "{text}"
    );

    fixture.builder.tools = Tools::for_tests("/nonexistent".into());
    let text = fixture.build("base").unwrap_err().to_string();
    assert!(text.contains("gcc-aarch64-linux-gnu"), "{text}");

    let request = KernelRequest {
        source: Some("/nonexistent".into()),
        ..request("base")
    };
    let fixture = Fixture::new();
    let error = fixture.builder.build(&request, &Quiet).unwrap_err();
    assert!(matches!(error, KernelError::BadSource { .. }), "{error}");
    let request = KernelRequest {
        source: Some(fixture.path("bin")),
        ..request
    };
    let error = fixture
        .builder
        .build(&request, &Quiet)
        .unwrap_err()
        .to_string();
    assert!(error.contains("it has no Makefile"), "{error}");
}

#[test]
fn two_builders_take_turns() {
    let fixture = Fixture::new();
    let kernels: Vec<_> = std::thread::scope(|scope| {
        let builds: Vec<_> = ["base", "patched", "base", "patched"]
            .map(|stack| scope.spawn(|| fixture.build(stack)))
            .into_iter()
            .collect();
        builds
            .into_iter()
            .map(|build| build.join().unwrap().unwrap())
            .collect()
    });
    assert_eq!(image(&kernels[0]), "int a;\nint b;\n");
    assert_eq!(image(&kernels[1]), "int a;\nint patched;\n");
    assert_eq!(kernels[0], kernels[2]);
    assert_eq!(fixture.compilations(), 2);
}

#[test]
fn the_shipped_stacks_and_configurations_are_well_formed() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let builder = KernelBuilder::with_directories(&guest, CacheDir::at(dir.path())).unwrap();
    let stacks = builder.stacks().unwrap();
    let base = stacks
        .iter()
        .find(|stack| stack.name == BASE_STACK)
        .unwrap();
    assert_eq!(base.patches, []);
    for stack in &stacks {
        let listed: Vec<_> = stack
            .patches
            .iter()
            .map(|patch| patch.name.clone())
            .collect();
        let mut there: Vec<_> = fs::read_dir(guest.join("stacks").join(&stack.name))
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter(|name| name.ends_with(".patch") && !name.starts_with("0000-cover-letter"))
            .collect();
        there.sort();
        assert_eq!(listed, there, "series of {}", stack.name);
    }
    builder
        .load_config(&KernelRequest::named("base+lockdep"))
        .unwrap();
}

#[test]
fn a_series_with_a_letter_is_numbered_as_git_numbers_it() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let builder = KernelBuilder::with_directories(&guest, CacheDir::at(dir.path())).unwrap();
    let mut letters = 0;
    for stack in builder.stacks().unwrap() {
        let letter = guest
            .join("stacks")
            .join(&stack.name)
            .join("0000-cover-letter.patch");
        let Ok(letter) = fs::read_to_string(&letter) else {
            continue;
        };
        letters += 1;
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        let (letter, mut listed, mut touched) = (lines(&letter), 0, 0);
        for version in [(6, 12), (7, 3)] {
            let of_version = stack.patches.iter().filter(|p| p.versions.has(version));
            let patches: Vec<_> = of_version.collect();
            let all = patches.len();
            let subject = |n: usize| format!("Subject: [PATCH {n}/{all}] ");
            assert!(letter[3].starts_with(&subject(0)), "{}", letter[3]);
            for (patch, n) in patches.iter().zip(1..) {
                let text = lines(&patch.text);
                let title = text[3].strip_prefix(&subject(n));
                let title = title.unwrap_or_else(|| panic!("{}: {}", patch.name, text[3]));
                listed += usize::from(letter.contains(&format!("  {title}")));
            }
            touched = patches.iter().map(|patch| patch.files.len()).sum();
            assert_eq!(listed % all, 0, "the letter lacks a patch");
        }
        let stat = format!(" {touched} files changed, ");
        assert!(letter.iter().any(|line| line.starts_with(&stat)), "{stat}");
        assert!(letter.iter().any(|line| line.starts_with("Base: Linux ")));
        assert!(
            letter
                .iter()
                .any(|line| line.contains("https://lore.kernel.org/"))
        );
    }
    assert_eq!(letters, 1);
}

/// A disk that is full makes tar complain of each file, while it goes on to name them.
#[test]
fn an_archive_that_cannot_be_unpacked_is_told_and_lets_go_of_the_lock() {
    let fixture = Fixture::new();
    let tar = fixture.path("bin/tar");
    let script = "#!/bin/sh\ni=0\nwhile [ $i -lt 4000 ]; do i=$((i+1)); echo \"x/$i\"; \
                  echo \"tar: x/$i: Cannot write: No space left on device\" >&2; done\nexit 2\n";
    fs::write(&tar, script).unwrap();
    fs::set_permissions(&tar, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        let begun = std::time::Instant::now();
        let told = fixture.build("base").unwrap_err().to_string();
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(told.contains("No space left on device"), "{told}");
        assert!(told.len() < 2048 && told.contains("lines more"), "{told}");
        // What is of no use takes no room.
        assert!(fixture.cached("src.partial").is_empty());
    }
    fs::remove_file(&tar).unwrap();
    fixture.build("base").unwrap();
}

/// Says that the user has enough of it, once make has said something.
struct Enough(std::sync::atomic::AtomicBool);

impl Progress for Enough {
    fn begin(&self, what: &str, _: staleline_support::progress::Counted) {
        let compiles = what.starts_with("compiling");
        self.0.store(compiles, std::sync::atomic::Ordering::Relaxed);
    }
    fn advance(&self, _: &str) {}
    fn detail(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn a_build_that_nobody_wants_any_more_ends_and_is_picked_up_later() {
    let fixture = Fixture::new();
    let e = fixture
        .builder
        .build(&request("patched"), &Enough(false.into()))
        .unwrap_err();
    assert!(matches!(e, KernelError::Cancelled), "{e}");
    fixture.build("patched").unwrap();
}
