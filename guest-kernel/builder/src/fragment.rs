// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Fragments of configuration that the user brings along.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use staleline_support::files;

use super::error::KernelError;
use super::kconfig::{Kconfig, Setting, setting, unmet};

/// Larger files are no fragments.
const MAX_BYTES: u64 = 1 << 20;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Fragment {
    /// Reads one. Each line that says something must be a setting: to Kconfig, what it does not
    /// understand is worth a warning at most, and nobody would see that.
    pub(super) fn read(path: &Path) -> Result<Self, KernelError> {
        let path = fs::canonicalize(path).map_err(KernelError::fragment(path))?;
        let mut text = String::new();
        files::open(&path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
            .map_err(KernelError::fragment(&path))?;
        let malformed = |line, reason: &str| KernelError::Malformed {
            path: path.clone(),
            line,
            reason: reason.to_owned(),
        };
        if text.len() as u64 > MAX_BYTES {
            return Err(malformed(1, "a fragment has at most 1 MiB"));
        }
        for (index, line) in text.lines().enumerate() {
            let says = line.trim();
            if setting(says).is_none() && !says.is_empty() && !says.starts_with('#') {
                let reason = "this is no setting: CONFIG_NAME=VALUE, or `# CONFIG_NAME is not set`";
                return Err(malformed(index + 1, reason));
            }
        }
        if !text.lines().any(|line| setting(line).is_some()) {
            return Err(malformed(1, "there is no setting in this fragment"));
        }
        text.push('\n');
        Ok(Self { path, text })
    }

    /// For names of kernels: the file's, without `.config`.
    pub(super) fn stem(path: &Path) -> String {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match name.strip_suffix(".config") {
            Some(stem) if !stem.is_empty() => stem.to_owned(),
            _ => name.into_owned(),
        }
    }
}

/// That `config` has what each fragment asks for, unless a later one asks for something else.
pub(super) fn require(fragments: &[Fragment], config: &Kconfig) -> Result<(), KernelError> {
    let together: String = fragments.iter().map(|f| f.text.as_str()).collect();
    let mut told = String::new();
    for (name, value) in unmet(&together, config) {
        let is = match config.setting(name) {
            Setting::BuiltIn => "is y".to_owned(),
            Setting::Module => "is m".to_owned(),
            Setting::Value(value) => format!("is {value}"),
            Setting::Off => "is off".to_owned(),
            Setting::Absent => {
                "is not there: this kernel has no such option, or what it depends on is off"
                    .to_owned()
            }
        };
        // The last that sets it: an earlier one has not asked for this in the end.
        let sets = |fragment: &&Fragment| {
            let mut settings = fragment.text.lines().filter_map(setting);
            settings.any(|asked| asked == (name, value))
        };
        if let Some(by) = fragments.iter().rfind(sets) {
            // Writing to a string cannot fail.
            let _ = write!(told, "\n  {}: {name}={value} {is}", by.path.display());
        }
    }
    match told.is_empty() {
        true => Ok(()),
        false => Err(KernelError::UnmetFragment { told }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Fragment, KernelError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.config");
        fs::write(&path, text).unwrap();
        Fragment::read(&path)
    }

    #[test]
    fn what_kconfig_would_pass_over_is_an_error() {
        for (text, reason) in [
            ("CONFIG_A=y\nB=y\n", ":2: this is no setting"),
            ("CONFIG_A y\n", ":1: this is no setting"),
            ("# a comment\n", "there is no setting"),
        ] {
            let told = read(text).unwrap_err().to_string();
            assert!(told.contains(reason), "{told}");
        }
        read("\n# why\n  CONFIG_A=y\n# CONFIG_B is not set\n").unwrap();
        let none = Fragment::read(Path::new("/nonexistent/x.config"));
        assert!(none.unwrap_err().to_string().contains("x.config"));
    }

    #[test]
    fn what_did_not_take_effect_is_named_with_what_it_is() {
        let first = read("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=n\n").unwrap();
        let second = read("CONFIG_A=n\nCONFIG_D=5\n").unwrap();
        let fragments = [first, second];
        let with = |config: &str| require(&fragments, &Kconfig::parse(config));
        with("# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_D=5\n").unwrap();
        let told = with("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n").unwrap_err();
        let told = told.to_string();
        for line in [
            "mine.config: CONFIG_A=n is y\n",
            "mine.config: CONFIG_B=m is y\n",
            "mine.config: CONFIG_C=n is y\n",
            "mine.config: CONFIG_D=5 is not there: this kernel has no such option",
        ] {
            assert!(told.contains(line), "{told}");
        }
        assert!(!told.contains("CONFIG_A=y is"), "{told}");
    }

    #[test]
    fn a_kernel_is_named_after_the_file() {
        for (path, stem) in [
            ("a/debug.config", "debug"),
            ("x.cfg", "x.cfg"),
            (".config", ".config"),
        ] {
            assert_eq!(Fragment::stem(Path::new(path)), stem);
        }
    }
}
