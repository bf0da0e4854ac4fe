// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Of patches and configurations, those that are for the version of a source.

use std::fs;
use std::path::Path;

use super::cache::Cache;
use super::error::KernelError;
use super::source::Source;
use super::stack::Stack;
use super::tools::Tools;
use super::version::{SINCE, Version, of_makefile, parse};

impl Stack {
    /// The patches that are for a source. It is only looked at if that makes a difference.
    pub(super) fn retain_for(
        &mut self,
        source: &Source,
        cache: &Cache,
        tools: &Tools,
    ) -> Result<(), KernelError> {
        if self.patches.iter().all(|patch| patch.versions.is_any()) {
            return Ok(());
        }
        let version = of(source, cache, tools)?;
        self.patches.retain(|patch| patch.versions.has(version));
        Ok(())
    }
}

/// What the configuration `name` has besides for the versions up to that of `source`, which is only
/// looked at if there is anything.
pub(super) fn additions(
    dir: &Path,
    name: &str,
    source: &Source,
    cache: &Cache,
    tools: &Tools,
) -> Result<String, KernelError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(KernelError::io("read", dir))? {
        let file = entry.map_err(KernelError::io("read", dir))?;
        let since = file.file_name().to_str().and_then(|file| {
            let rest = file.strip_prefix(name)?.strip_prefix(SINCE)?;
            parse(rest.strip_suffix(".config")?)
        });
        files.extend(since.map(|since| (since, file.path())));
    }
    if files.is_empty() {
        return Ok(String::new());
    }
    files.sort();
    let version = of(source, cache, tools)?;
    let mut text = String::new();
    for (_, path) in files.iter().filter(|(since, _)| *since <= version) {
        text += &fs::read_to_string(path).map_err(KernelError::io("read", path))?;
        text.push('\n');
    }
    Ok(text)
}

/// The version of a source, by its Makefile.
fn of(source: &Source, cache: &Cache, tools: &Tools) -> Result<Version, KernelError> {
    let bad = || KernelError::BadSource {
        path: source.path().to_owned(),
        reason: "its Makefile does not say which version it is".to_owned(),
    };
    let text = match source {
        Source::Tree { path, .. } => {
            let path = path.join("Makefile");
            let text = fs::read_to_string(&path).map_err(KernelError::io("read", &path))?;
            of_makefile(&text).ok_or_else(bad)?
        }
        Source::Archive { path, .. } => cache.once("versions.json", path, || {
            let mut tar = tools.command("tar");
            tar.args(["--extract", "--to-stdout", "--occurrence=1", "--wildcards"])
                .args(["--no-wildcards-match-slash", "--file"])
                .arg(path)
                .arg("*/Makefile");
            let failed = |reason: String| KernelError::Program {
                program: "tar".to_owned(),
                reason,
            };
            let output = tar.output().map_err(|error| failed(error.to_string()))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(failed(said.trim().to_owned()));
            }
            of_makefile(&String::from_utf8_lossy(&output.stdout)).ok_or_else(bad)
        })?,
    };
    parse(&text).ok_or_else(bad)
}
