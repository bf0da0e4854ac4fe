// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which compiler builds the agent.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::error::InitramfsError;

/// Static glibc.
pub(super) const GNU: &str = "aarch64-unknown-linux-gnu";
/// Static musl, linked by Rust's own linker.
pub(super) const MUSL: &str = "aarch64-unknown-linux-musl";

/// Where Debian's compiler is, for which its packages have standard libraries of other
/// architectures.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can build for the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Toolchain {
    /// The compiler.
    pub rustc: PathBuf,
    /// Its `--version --verbose`.
    pub version: String,
    /// [`GNU`] or [`MUSL`].
    pub target: String,
    /// Where its standard library for the target is.
    libraries: PathBuf,
}

/// What a choice was based on; as long as that stays, so does the choice. A toolchain that was
/// added since may then go unnoticed, which does no harm.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memo {
    basis: Vec<String>,
    libraries: String,
    toolchain: Toolchain,
}

impl Memo {
    fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

impl Toolchain {
    /// Chooses for the workspace at `workspace`; `memo` is a file that saves asking the compilers
    /// again.
    pub(super) fn choose(workspace: &Path, memo: &Path) -> Result<Self, InitramfsError> {
        Self::choose_of(candidates(), workspace, memo)
    }

    /// As [`Toolchain::choose`], of these compilers.
    pub(super) fn choose_of(
        candidates: Vec<PathBuf>,
        workspace: &Path,
        memo: &Path,
    ) -> Result<Self, InitramfsError> {
        let basis = basis(workspace, &candidates);
        if let Some(saved) = Memo::read(memo)
            && saved.basis == basis
            && saved.libraries == stamp(&saved.toolchain.libraries)
        {
            return Ok(saved.toolchain);
        }
        let toolchain = candidates
            .iter()
            .find_map(|rustc| ask(rustc, workspace))
            .ok_or_else(|| InitramfsError::NoToolchain {
                target: GNU,
                tried: match candidates.as_slice() {
                    [] => "no rustc found".into(),
                    some => some
                        .iter()
                        .map(|p| p.display().to_string())
                        .collect::<Vec<_>>()
                        .join(", "),
                },
            })?;
        let new = Memo {
            basis,
            libraries: stamp(&toolchain.libraries),
            toolchain: toolchain.clone(),
        };
        // Without the memo the next run takes a little longer, that is all.
        if let (Ok(json), Some(dir)) = (serde_json::to_vec_pretty(&new), memo.parent()) {
            let _ = fs::create_dir_all(dir).and_then(|()| fs::write(memo, json));
        }
        Ok(toolchain)
    }

    /// The one that was chosen last, which may be gone since: what it has built is known by it.
    pub(super) fn last(memo: &Path) -> Option<Self> {
        Memo::read(memo).map(|saved| saved.toolchain)
    }

    /// Whether an external linker is needed, and which.
    pub(super) fn linker(&self) -> Option<&'static str> {
        match self.target.as_str() {
            MUSL => Some("rust-lld"),
            _ if cfg!(target_arch = "aarch64") => None,
            _ => Some("aarch64-linux-gnu-gcc"),
        }
    }

    /// Where the sources of its standard library are if they are installed, and what they are called in the
    /// library itself, which was compiled elsewhere: code of theirs that is compiled here is to have the same
    /// names.
    pub(super) fn sources(&self) -> Option<(PathBuf, String)> {
        let mut lines = self.version.lines();
        let commit = lines.find_map(|line| line.strip_prefix("commit-hash: "))?;
        // .../lib/rustlib/TARGET/lib
        let rustlib = self.libraries.ancestors().nth(2)?;
        Some((rustlib.join("src/rust"), format!("/rustc/{commit}")))
    }

    /// The linker's option for the address of an executable, up to the address.
    pub(super) fn base_option(&self) -> &'static str {
        match self.target.as_str() {
            MUSL => "--image-base=",
            _ => "-Wl,-Ttext-segment=",
        }
    }

    /// Fails with the package to install if the link would fail for lack of it.
    pub(super) fn check_linker(&self) -> Result<(), InitramfsError> {
        let (program, remedy) = match self.linker() {
            Some("rust-lld") => return Ok(()),
            Some(gcc) => (
                gcc,
                "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
            ),
            None => ("cc", "apt-get install gcc libc6-dev"),
        };
        let missing = |program: &str| InitramfsError::MissingProgram {
            program: program.into(),
            remedy,
        };
        let gcc = which::which(program).map_err(|_| missing(program))?;
        // It answers with a path if it has the file, else with the bare name.
        let answer = output(Command::new(gcc).arg("-print-file-name=libc.a"));
        match answer {
            Some(path) if Path::new(&path).is_file() => Ok(()),
            _ => Err(missing("a static C library (libc.a)")),
        }
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut found: Vec<_> = which::which("rustc").into_iter().collect();
    let distribution = PathBuf::from(DISTRIBUTION_RUSTC);
    if distribution.is_file() && !found.contains(&distribution) {
        found.push(distribution);
    }
    found
}

fn ask(rustc: &Path, workspace: &Path) -> Option<Toolchain> {
    // In the workspace, because rustup looks for rust-toolchain.toml from there.
    let run = |arguments: &[&str]| {
        let mut command = Command::new(rustc);
        output(command.args(arguments).current_dir(workspace))
    };
    let sysroot = run(&["--print", "sysroot"])?;
    let (target, libraries) = [GNU, MUSL].into_iter().find_map(|target| {
        let libraries = Path::new(&sysroot)
            .join("lib/rustlib")
            .join(target)
            .join("lib");
        has_std(&libraries).then_some((target, libraries))
    })?;
    Some(Toolchain {
        rustc: rustc.to_owned(),
        version: run(&["--version", "--verbose"])?,
        target: target.into(),
        libraries,
    })
}

fn has_std(libraries: &Path) -> bool {
    fs::read_dir(libraries).is_ok_and(|entries| {
        entries.flatten().any(|e| {
            let name = e.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

/// Standard output of a successful command, trimmed.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn basis(workspace: &Path, candidates: &[PathBuf]) -> Vec<String> {
    let environment = ["RUSTUP_TOOLCHAIN", "RUSTUP_HOME"]
        .map(|name| format!("{name}={:?}", std::env::var_os(name)));
    let pinned = fs::read_to_string(workspace.join("rust-toolchain.toml"));
    candidates
        .iter()
        .map(|rustc| stamp(rustc))
        .chain(environment)
        .chain(pinned)
        .collect()
}

/// A file's path, size and time.
fn stamp(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(m) => format!(
            "{} {} {}.{}",
            path.display(),
            m.size(),
            m.mtime(),
            m.mtime_nsec()
        ),
        Err(_) => format!("{} is not there", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A `rustc` whose sysroot has a standard library for `targets`.
    fn fake_rustc(dir: &Path, targets: &[&str]) -> PathBuf {
        for target in targets {
            let lib = dir.join("lib/rustlib").join(target).join("lib");
            fs::create_dir_all(&lib).unwrap();
            fs::write(lib.join("libstd-0123.rlib"), "").unwrap();
        }
        let rustc = dir.join("rustc");
        let script = format!(
            "#!/bin/sh\ncase $1 in --print) echo {};; *) echo rustc 9.9;; esac\n",
            dir.display()
        );
        fs::write(&rustc, script).unwrap();
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
        rustc
    }

    #[test]
    fn a_compiler_without_the_target_is_no_candidate() {
        let dir = tempfile::tempdir().unwrap();
        let rustc = fake_rustc(dir.path(), &["x86_64-unknown-linux-gnu"]);
        assert_eq!(ask(&rustc, dir.path()), None);
        let rustc = fake_rustc(dir.path(), &[MUSL]);
        let found = ask(&rustc, dir.path()).unwrap();
        assert_eq!(
            (found.target.as_str(), found.linker()),
            (MUSL, Some("rust-lld"))
        );
        // Both there now.
        let rustc = fake_rustc(dir.path(), &[GNU]);
        let found = ask(&rustc, dir.path()).unwrap();
        assert_eq!(
            (found.target.as_str(), found.version.as_str()),
            (GNU, "rustc 9.9")
        );
    }

    #[test]
    fn a_library_that_changes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        fake_rustc(dir.path(), &[GNU]);
        let lib = dir.path().join("lib/rustlib").join(GNU).join("lib");
        let before = stamp(&lib);
        fs::remove_dir_all(&lib).unwrap();
        assert_ne!(before, stamp(&lib));
    }
}
