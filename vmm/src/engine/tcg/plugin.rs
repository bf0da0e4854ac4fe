// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The plugin: where it is, and made of the sources where there is none (`cargo install` installs
//! programs, and no libraries).

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use staleline_support::cache::CacheDir;
use staleline_support::cargo::{self, Failed};
use staleline_support::digest::{self, FieldHasher};
use staleline_support::progress::Progress;
use staleline_support::{files, home};

use super::QemuError;
use crate::engine::EngineError;

/// File name of the library.
pub const PLUGIN_FILE: &str = "libstaleline_tcg.so";

/// Environment variable: which plugin.
pub(super) const PLUGIN_ENV: &str = "STALELINE_TCG_PLUGIN";

/// Its package.
const PACKAGE: &str = "staleline-tcg";
/// In a checkout.
const MANIFEST: &str = "vmm/tcg-plugin/Cargo.toml";
/// What it is made of, in a checkout.
const SOURCES: [&str; 3] = ["devices/src", "vmm", "images/protocol/src"];

/// Where it is.
///
/// # Errors
/// [`QemuError::PluginMissing`].
pub(super) fn find() -> Result<PathBuf, QemuError> {
    let exe = std::env::current_exe().ok();
    let mut searched = places(named(), exe.as_deref());
    if named().is_none() {
        searched.extend(Own::of_this_program().map(|own| own.library));
    }
    let found = searched.iter().find(|path| path.is_file()).cloned();
    found.ok_or(QemuError::PluginMissing { searched })
}

fn named() -> Option<PathBuf> {
    std::env::var_os(PLUGIN_ENV).map(PathBuf::from)
}

/// A library that the user has named is the only candidate; else those beside the program, one up,
/// because Cargo puts tests in `deps/`, and in `lib/` of an installation.
fn places(named: Option<PathBuf>, exe: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = named {
        return vec![path];
    }
    let Some(dir) = exe.and_then(Path::parent) else {
        return Vec::new();
    };
    let up = dir.parent();
    let lib = up.map(|up| up.join("lib/staleline"));
    let dirs = [Some(dir), up, lib.as_deref()].into_iter().flatten();
    dirs.map(|dir| dir.join(PLUGIN_FILE)).collect()
}

/// Where they are in the cache, and what Cargo leaves there.
const KEPT: &str = "plugin";
const TARGET: &str = "target";

/// What the cache has of plugins, and what was left when they were compiled.
pub(super) fn kept(cache: &CacheDir) -> Vec<(&'static str, PathBuf)> {
    let all = cache.entries(KEPT, |_| true).into_iter();
    let ours = all.filter_map(|dir| match dir.ends_with(TARGET) {
        true => Some(("objects of plugins", dir)),
        false => dir.join(PLUGIN_FILE).is_file().then_some(("plugin", dir)),
    });
    ours.collect()
}

/// Makes it if there is none, sources are, and the user has named no other.
///
/// # Errors
/// [`QemuError::PluginBuild`]; [`QemuError::PluginStale`] if the sources are not those of this program;
/// [`EngineError::Interrupted`].
pub(super) fn make(progress: &dyn Progress) -> Result<(), EngineError> {
    if named().is_some() || find().is_ok() {
        return Ok(());
    }
    // With nothing to make it of, whoever looks for it next is told.
    Own::of_this_program().map_or(Ok(()), |own| own.build(progress))
}

/// A library of this very program's: in the cache, as the program itself may stand anywhere.
struct Own {
    program: PathBuf,
    workspace: PathBuf,
    library: PathBuf,
    target: PathBuf,
}

impl Own {
    fn of_this_program() -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let cache = CacheDir::from_environment().ok()?;
        let manifest = home::find(MANIFEST).ok()?;
        Self::of(program, manifest.ancestors().nth(3)?, &cache)
    }

    /// The key is of the program's file, as that says which sources it was made of.
    fn of(program: PathBuf, workspace: &Path, cache: &CacheDir) -> Option<Self> {
        let data = std::fs::metadata(&program).ok()?;
        let made = data.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH);
        let mut key = FieldHasher::default();
        key.field(program.as_os_str().as_encoded_bytes());
        key.field(data.len().to_le_bytes());
        key.field(made.ok()?.as_nanos().to_le_bytes());
        let dir = cache.join(KEPT);
        let library = dir.join(digest::short(&key.finish())).join(PLUGIN_FILE);
        Some(Own {
            program,
            workspace: workspace.to_owned(),
            library,
            target: dir.join(TARGET),
        })
    }

    fn build(&self, progress: &dyn Progress) -> Result<(), EngineError> {
        if let Some(source_file) = self.newer_source() {
            let program = self.program.clone();
            return Err(QemuError::PluginStale {
                source_file,
                program,
            }
            .into());
        }
        progress.step("building the engine's plugin, once for this program");
        let failed = |why: String| QemuError::PluginBuild {
            workspace: self.workspace.clone(),
            why,
        };
        let mut cargo = cargo::command();
        cargo
            .args(["build", "--release", "--package", PACKAGE, "--target-dir"])
            .arg(&self.target)
            .current_dir(&self.workspace);
        cargo::build(&mut cargo, progress).map_err(|why| match why {
            Failed::Cancelled => EngineError::Interrupted,
            Failed::Run(e) => failed(format!("cannot run cargo: {e}")).into(),
            Failed::Status { status, tail } => {
                failed(format!("cargo fails ({status}):\n{tail}")).into()
            }
        })?;
        let built = self.target.join("release").join(PLUGIN_FILE);
        let keep = |bytes: Vec<u8>| files::write_atomically(&self.library, &bytes, files::READABLE);
        std::fs::read(&built)
            .and_then(keep)
            .map_err(|e| failed(format!("cannot keep {}: {e}", built.display())).into())
    }

    /// A source that has changed since the program was made: a plugin of it would be another machine.
    fn newer_source(&self) -> Option<PathBuf> {
        let modified = |path: &Path| std::fs::metadata(path).ok()?.modified().ok();
        let made = modified(&self.program)?;
        let files = SOURCES.iter().flat_map(|source| {
            let dir = walkdir::WalkDir::new(self.workspace.join(source)).sort_by_file_name();
            dir.into_iter().filter_map(Result::ok)
        });
        let sources = files.filter(|f| f.path().extension().is_some_and(|e| e == "rs"));
        let mut newer = sources.filter(|f| modified(f.path()).is_some_and(|t| t > made));
        newer.next().map(|f| f.path().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_plugin_is_the_only_candidate() {
        let exe = Some(Path::new("/t/bin/staleline"));
        let named = PathBuf::from("/x/p.so");
        assert_eq!(places(Some(named.clone()), exe), [named]);
        let found = places(None, exe);
        assert_eq!(found[0], Path::new("/t/bin/libstaleline_tcg.so"));
        assert_eq!(found[2], Path::new("/t/lib/staleline/libstaleline_tcg.so"));
        assert!(places(None, None).is_empty());
    }

    #[test]
    fn sources_that_are_newer_than_the_program_make_no_plugin() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("staleline");
        std::fs::write(&program, "program").unwrap();
        let cache = CacheDir::at(dir.path().join("cache"));
        let own = Own::of(program.clone(), dir.path(), &cache).unwrap();
        assert_eq!(own.newer_source(), None);
        let source = dir.path().join("devices/src/lib.rs");
        std::fs::create_dir_all(source.parent().unwrap()).unwrap();
        std::fs::write(&source, "").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        let file = std::fs::File::options().write(true).open(&source).unwrap();
        file.set_modified(later).unwrap();
        assert_eq!(own.newer_source(), Some(source));
        let error = own.build(&staleline_support::progress::Quiet).unwrap_err();
        let EngineError::Own(fault) = &error else {
            panic!("{error}");
        };
        let stale = matches!(fault.of(), Some(QemuError::PluginStale { .. }));
        assert!(stale, "{error}");

        // Another program has another.
        let program = std::fs::File::options().write(true).open(&program).unwrap();
        program.set_modified(later).unwrap();
        let other = Own::of(own.program, dir.path(), &cache).unwrap();
        assert_ne!(other.library, own.library);
    }
}
