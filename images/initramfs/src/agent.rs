// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Building the guest agent, and examples that run beside it, once per content of their sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use staleline_support::cache::CacheDir;
use staleline_support::cargo::{self, Failed};
use staleline_support::digest::{self, FieldHasher};
use staleline_support::files;
use staleline_support::lock::Lock;
use staleline_support::progress::Progress;
use walkdir::WalkDir;

use super::error::InitramfsError;
use super::executable as elf;
use super::toolchain::Toolchain;

/// Part of every key: raised whenever the way of building changes.
const RECIPE: u32 = 4;

/// Where the agent is linked to: where no linker puts a program if it is not told to, so that an address
/// tells the agent's code from that of the programs that it runs.
const ADDRESS: u64 = 0x10_0000_0000;

/// What is known of the compiler, in the cache.
const MEMO: &str = "toolchain.json";

const PROFILE: &str = "guest";

/// What cargo's home and its target directory are called in what is built.
const CARGO_HOME: &str = "/cargo/";
const TARGET: &str = "/target";

/// What all of them are made of, in the workspace.
const SOURCES: [&str; 3] = ["Cargo.toml", "Cargo.lock", "images/protocol"];

/// And programs for the guest.
const GUEST_SOURCES: [&str; 2] = ["images/guest/Cargo.toml", "images/guest/src"];

/// And the VMM.
const VMM_SOURCES: [&str; 7] = [
    "devices/Cargo.toml",
    "devices/src",
    "vmm/events",
    "vmm/machine",
    "vmm/support",
    "vmm/kvm/Cargo.toml",
    "vmm/kvm/src",
];

/// An arm64 executable that stands alone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Executable<'a> {
    /// The guest's agent.
    Agent,
    /// The example of that name, in `images/examples`.
    Example(&'a str),
    /// The VMM of the KVM engine.
    Vmm,
}

impl Executable<'_> {
    pub(super) fn name(&self) -> &str {
        match self {
            Executable::Agent => "staleline-agent",
            Executable::Example(name) => name,
            Executable::Vmm => "staleline-kvm",
        }
    }

    /// What it is, for people.
    fn what(&self) -> &str {
        match self {
            Executable::Agent => "the guest agent",
            Executable::Example(name) => name,
            Executable::Vmm => "the VMM",
        }
    }

    /// What it is made of.
    fn sources(&self) -> Vec<String> {
        let own: Vec<String> = match self {
            Executable::Agent => vec!["images/agent".into()],
            Executable::Example(name) => vec![format!("images/examples/{name}.rs")],
            Executable::Vmm => VMM_SOURCES.map(str::to_owned).into(),
        };
        let guest = match self {
            Executable::Agent | Executable::Example(_) => &GUEST_SOURCES[..],
            Executable::Vmm => &[],
        };
        let shared = SOURCES.iter().chain(guest).map(|s| (*s).to_owned());
        shared.chain(own).collect()
    }

    /// Cargo's options for it.
    fn options(&self) -> Vec<&str> {
        match self {
            Executable::Agent => vec!["--package", "staleline-agent"],
            Executable::Example(name) => vec!["--package", "staleline-examples", "--bin", name],
            Executable::Vmm => vec!["--package", "staleline-kvm", "--bin", "staleline-kvm"],
        }
    }
}

/// Builds an executable of the workspace at `workspace`, or finds it in the cache.
pub(super) fn build(
    executable: Executable<'_>,
    workspace: &Path,
    cache: &CacheDir,
    progress: &dyn Progress,
) -> Result<PathBuf, InitramfsError> {
    if !workspace.join("images/agent/Cargo.toml").is_file() {
        return Err(InitramfsError::NoSources(workspace.join("images/agent")));
    }
    let agents = cache.path().join("agent");
    let memo = agents.join(MEMO);
    let toolchain = match Toolchain::choose(workspace, &memo) {
        Ok(toolchain) => toolchain,
        // The sources' content is part of the key, so that one of other sources is not found.
        Err(none) => return find(executable, workspace, cache).ok_or(none),
    };
    let target = place(
        &agents,
        executable,
        &key(executable, workspace, &toolchain)?,
    );
    if target.is_file() {
        return Ok(target);
    }
    toolchain.check_linker()?;
    progress.step(&format!(
        "building {} with {}",
        executable.what(),
        first_line(&toolchain.version)
    ));
    let built = compile(
        executable,
        workspace,
        &toolchain,
        &agents.join("target"),
        progress,
    )?;
    let bytes = fs::read(&built).map_err(InitramfsError::io("read", &built))?;
    elf::check(&bytes).map_err(|why| InitramfsError::BadAgent { path: built, why })?;
    files::write_atomically(&target, &bytes, files::EXECUTABLE)
        .map_err(InitramfsError::io("write", &target))?;
    Ok(target)
}

/// Whether the compiler and the linker are there that [`build`] takes.
pub(super) fn can_build(workspace: &Path, cache: &CacheDir) -> Result<(), InitramfsError> {
    let memo = cache.path().join("agent").join(MEMO);
    Toolchain::choose(workspace, &memo)?.check_linker()
}

/// The executable of the workspace's sources as the last compiler has built it, if it did.
pub(super) fn find(
    executable: Executable<'_>,
    workspace: &Path,
    cache: &CacheDir,
) -> Option<PathBuf> {
    let agents = cache.path().join("agent");
    let last = Toolchain::last(&agents.join(MEMO))?;
    let built = place(
        &agents,
        executable,
        &key(executable, workspace, &last).ok()?,
    );
    built.is_file().then_some(built)
}

/// Where a finished one is.
fn place(agents: &Path, executable: Executable<'_>, key: &str) -> PathBuf {
    agents.join(key).join(executable.name())
}

/// All files that it is made of, in order, as far as they are there.
pub(super) fn files_of(executable: Executable<'_>, workspace: &Path) -> Vec<PathBuf> {
    let sources = executable.sources().into_iter();
    let entries =
        sources.flat_map(|source| WalkDir::new(workspace.join(source)).sort_by_file_name());
    let files = entries
        .flatten()
        .filter(|entry| entry.file_type().is_file());
    files.map(walkdir::DirEntry::into_path).collect()
}

/// Hash over all that decides what it is.
fn key(
    executable: Executable<'_>,
    workspace: &Path,
    toolchain: &Toolchain,
) -> Result<String, InitramfsError> {
    let mut hasher = FieldHasher::default();
    let mut field = |bytes: &[u8]| hasher.field(bytes);
    field(&RECIPE.to_le_bytes());
    field(toolchain.version.as_bytes());
    field(toolchain.target.as_bytes());
    for source in executable.sources() {
        let root = workspace.join(source);
        for entry in WalkDir::new(&root).sort_by_file_name() {
            let entry = entry.map_err(|e| {
                let path = e.path().unwrap_or(&root).to_owned();
                InitramfsError::io("read", &path)(e.into())
            })?;
            if !entry.file_type().is_file() {
                continue;
            }
            let path = entry.path();
            let name = path.strip_prefix(workspace).unwrap_or(path);
            field(name.as_os_str().as_encoded_bytes());
            field(&fs::read(path).map_err(InitramfsError::io("read", path))?);
        }
    }
    Ok(digest::short(&hasher.finish()).to_owned())
}

/// Compiles it; the result is the path cargo has put it at.
fn compile(
    executable: Executable<'_>,
    workspace: &Path,
    toolchain: &Toolchain,
    target_dir: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, InitramfsError> {
    // Nobody takes it away meanwhile.
    let _used = fs::create_dir_all(target_dir)
        .and_then(|()| Lock::shared(target_dir))
        .map_err(InitramfsError::io("create", target_dir))?;
    let mut cargo = command(executable, workspace, toolchain, target_dir);
    let command = format!("{cargo:?}");
    cargo::build(&mut cargo, progress).map_err(|why| match why {
        Failed::Cancelled => InitramfsError::Cancelled,
        Failed::Run(source) if source.kind() == std::io::ErrorKind::NotFound => {
            InitramfsError::MissingProgram {
                program: "cargo".into(),
                remedy: "install Rust, https://rustup.rs",
            }
        }
        Failed::Run(source) => InitramfsError::Program {
            program: "cargo".into(),
            source,
        },
        Failed::Status { status, tail } => InitramfsError::BuildFailed {
            command,
            status,
            tail,
        },
    })?;
    Ok(target_dir
        .join(&toolchain.target)
        .join(PROFILE)
        .join(executable.name()))
}

fn command(
    executable: Executable<'_>,
    workspace: &Path,
    toolchain: &Toolchain,
    target_dir: &Path,
) -> Command {
    let mut cargo = cargo::command();
    // Static, and at a fixed address, so that its program counters need no load bias.
    let mut flags: Vec<String> = ["-Ctarget-feature=+crt-static", "-Crelocation-model=static"]
        .map(String::from)
        .into();
    // So that the engine can follow its calls.
    flags.push("-Cforce-frame-pointers=yes".into());
    flags.extend(remapped(workspace, toolchain, target_dir));
    if let Some(linker) = toolchain.linker() {
        flags.push(format!("-Clinker={linker}"));
    }
    for (name, _) in std::env::vars_os() {
        // Whatever a surrounding cargo or its user set is about the host.
        let text = name.to_string_lossy();
        let about_host = [
            "CARGO_PROFILE_",
            "CARGO_BUILD_",
            "CARGO_TARGET_",
            "CARGO_ENCODED_",
        ];
        if about_host.iter().any(|prefix| text.starts_with(prefix))
            || ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"].contains(&&*text)
        {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(workspace)
        .env("RUSTC", &toolchain.rustc)
        // Between the flags: the one character that no flag contains.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .args(["rustc", "--locked", "--color=never"])
        .args(executable.options())
        .args(["--profile", PROFILE, "--target", &toolchain.target])
        .arg("--target-dir")
        .arg(target_dir);
    if let Executable::Agent = executable {
        let base = toolchain.base_option();
        cargo.args(["--", &format!("-Clink-arg={base}{ADDRESS:#x}")]);
    }
    cargo
}

/// Names of files, in panics and debug information, that are the same wherever checkout, cargo's home, the
/// target directory and the compiler are: the guest's bytes, and with them the hash of a run, are not to
/// depend on that. Files of the checkout are named from its top, as diagnostics show them.
fn remapped(workspace: &Path, toolchain: &Toolchain, target_dir: &Path) -> Vec<String> {
    let home = std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty());
    // One that is relative starts where cargo is started.
    let home = home.map(|home| workspace.join(home));
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let mut all = vec![(workspace.to_owned(), ".".to_owned())];
    // The parts of it that have sources may be links to elsewhere.
    let parts = ["", "registry", "git"].into_iter();
    all.extend(home.into_iter().flat_map(|home| {
        let part = move |part| (home.join(part), format!("{CARGO_HOME}{part}"));
        parts.clone().map(part)
    }));
    all.push((workspace.join(target_dir), TARGET.into()));
    all.extend(toolchain.sources());
    let both = all.into_iter().flat_map(|(from, to)| {
        // Cargo names files as it was told, or as the system tells it where it is.
        let canonical = from.canonicalize().ok().filter(|path| *path != from);
        [Some(from), canonical]
            .into_iter()
            .flatten()
            .map(move |from| (from, to.clone()))
    });
    // Of several that fit, the compiler takes the last: the one that is deepest.
    let mut both: Vec<_> = both.collect();
    both.sort_by_key(|(from, _)| from.components().count());
    let flag = |(from, to): (PathBuf, String)| {
        let from = from.display();
        format!("--remap-path-prefix={from}={to}")
    };
    both.into_iter().map(flag).collect()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use staleline_support::progress::Quiet;

    use super::super::toolchain::MUSL;
    use super::super::workspace;
    use super::*;

    fn toolchain(version: &str) -> Toolchain {
        serde_json::from_value(serde_json::json!({
            "rustc": "/usr/bin/rustc", "version": version, "target": MUSL,
            "libraries": "/lib/rustlib/t/lib",
        }))
        .unwrap()
    }

    /// Copies a file or directory of the workspace, as far as it is `wanted`, to its place below `to`.
    fn copy(source: &Path, to: &Path, wanted: fn(&str) -> bool) {
        let workspace = workspace().unwrap();
        let all = WalkDir::new(workspace.join(source)).into_iter();
        let all = all.filter_entry(|entry| entry.file_name().to_str().is_some_and(wanted));
        for entry in all {
            let entry = entry.unwrap();
            let to = to.join(entry.path().strip_prefix(&workspace).unwrap());
            if entry.file_type().is_dir() {
                fs::create_dir_all(to).unwrap();
            } else {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    fn copy_of_sources() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for source in Executable::Agent.sources() {
            copy(Path::new(&source), dir.path(), |_| true);
        }
        dir
    }

    #[test]
    fn the_key_follows_sources_and_compiler_but_not_the_place() {
        let (a, b) = (copy_of_sources(), copy_of_sources());
        let key = |root: &Path, version| key(Executable::Agent, root, &toolchain(version)).unwrap();
        let original = key(a.path(), "1");
        assert_eq!(original, key(b.path(), "1"));
        assert_ne!(original, key(a.path(), "2"));
        let changed = b.path().join("images/agent/src/main.rs");
        fs::write(&changed, "fn main() {}").unwrap();
        assert_ne!(original, key(b.path(), "1"));
        fs::rename(
            a.path().join("images/guest/src/iio.rs"),
            a.path().join("images/guest/src/i.rs"),
        )
        .unwrap();
        assert_ne!(original, key(a.path(), "1"));
    }

    #[test]
    fn no_sources_is_said_plainly() {
        let dir = tempfile::tempdir().unwrap();
        let e = build(
            Executable::Agent,
            dir.path(),
            &CacheDir::at(dir.path()),
            &Quiet,
        )
        .unwrap_err();
        assert!(matches!(&e, InitramfsError::NoSources(_)), "{e}");
        assert!(e.to_string().contains("STALELINE_AGENT"));
    }

    #[test]
    fn without_a_compiler_only_what_is_built_of_these_sources_is_used() {
        let (sources, cache) = (copy_of_sources(), tempfile::tempdir().unwrap());
        let agents = &cache.path().join("agent");
        let none = Toolchain::choose_of(Vec::new(), sources.path(), &agents.join(MEMO));
        assert!(matches!(none, Err(InitramfsError::NoToolchain { .. })));
        let find = || {
            find(
                Executable::Agent,
                sources.path(),
                &CacheDir::at(cache.path()),
            )
        };
        assert_eq!(find(), None);

        let built = toolchain("1");
        let memo = serde_json::json!({
            "basis": ["/usr/bin/rustc 1 2 3.4"], "libraries": "/lib 1", "toolchain": built,
        });
        fs::create_dir(agents).unwrap();
        fs::write(agents.join(MEMO), memo.to_string()).unwrap();
        assert_eq!(find(), None);
        let key = key(Executable::Agent, sources.path(), &built).unwrap();
        let agent = place(agents, Executable::Agent, &key);
        files::write_atomically(&agent, b"agent", files::EXECUTABLE).unwrap();
        assert_eq!(find(), Some(agent));

        fs::write(sources.path().join("images/agent/src/main.rs"), "").unwrap();
        assert_eq!(find(), None);
    }

    #[test]
    fn host_settings_do_not_reach_the_guests_build() {
        let cargo = command(
            Executable::Agent,
            Path::new("/w"),
            &toolchain("1"),
            Path::new("/t"),
        );
        let flags = cargo
            .get_envs()
            .find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS")
            .and_then(|(_, value)| value)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let flags: Vec<_> = flags.split('\u{1f}').collect();
        assert!(flags.contains(&"-Ctarget-feature=+crt-static"));
        assert!(flags.contains(&"-Clinker=rust-lld"));
    }

    #[test]
    fn names_of_files_do_not_tell_where_anything_is() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir_all(real.join("out")).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let flags = remapped(&link, &toolchain("1"), &link.join("out"));
        let at = |from: &Path, to: &str| {
            let flag = format!("--remap-path-prefix={}={to}", from.display());
            let found = flags.iter().position(|known| *known == flag);
            found.unwrap_or_else(|| panic!("no {flag} in {flags:?}"))
        };
        let checkout = [at(&link, "."), at(&real, ".")];
        let target = [
            at(&link.join("out"), "/target"),
            at(&real.join("out"), "/target"),
        ];
        assert!(checkout.iter().max() < target.iter().min(), "{flags:?}");
        assert!(
            flags
                .iter()
                .any(|flag| flag.ends_with("/registry=/cargo/registry")),
            "{flags:?}"
        );
        // Only a compiler that tells its commit has its library's sources elsewhere.
        assert!(!flags.iter().any(|flag| flag.contains("=/rustc/")));
        let tells = remapped(&link, &toolchain("1\ncommit-hash: 5980"), &link);
        let sources = "--remap-path-prefix=/lib/rustlib/src/rust=/rustc/5980";
        assert!(tells.iter().any(|flag| flag == sources), "{tells:?}");
    }

    #[test]
    #[ignore = "compiles the agent twice: two minutes, needs the toolchain for the guest"]
    fn checkouts_of_other_names_give_the_same_bytes() {
        let built = |name: &str| {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join(name);
            // Cargo wants to see all members of the workspace.
            copy(Path::new(""), &root, |name| {
                name != "target" && name != ".git"
            });
            let cache = CacheDir::at(dir.path().join("cache").join(name));
            let agent = build(Executable::Agent, &root, &cache, &Quiet).unwrap();
            fs::read(agent).unwrap()
        };
        let (a, b) = (built("a"), built("of/a/much/longer/name"));
        assert!(a == b, "{} and {} bytes", a.len(), b.len());
    }

    #[test]
    #[ignore = "compiles the agent: a minute on a cold cache, needs the toolchain for the guest"]
    fn the_agent_builds_and_comes_from_the_cache_next_time() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CacheDir::at(dir.path());
        let steps = Steps::default();
        let first = build(Executable::Agent, &workspace().unwrap(), &cache, &steps).unwrap();
        let told = std::mem::take(&mut *steps.0.lock().unwrap());
        assert!(
            told.iter().any(|s| s.contains("Compiling staleline-agent")),
            "{told:?}"
        );
        let again = build(Executable::Agent, &workspace().unwrap(), &cache, &steps).unwrap();
        assert_eq!(first, again);
        assert_eq!(*steps.0.lock().unwrap(), [""; 0]);
    }

    /// What a build tells.
    #[derive(Default)]
    struct Steps(Mutex<Vec<String>>);

    impl Progress for Steps {
        fn begin(&self, what: &str, _: staleline_support::progress::Counted) {
            self.detail(what);
        }
        fn advance(&self, detail: &str) {
            self.detail(detail);
        }
        fn detail(&self, what: &str) {
            self.0.lock().unwrap().push(what.to_owned());
        }
        fn note(&self, text: &str) {
            self.detail(text);
        }
    }
}
