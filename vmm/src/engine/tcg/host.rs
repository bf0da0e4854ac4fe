// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Finding QEMU.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use staleline_support::child;

use super::{QemuError, plugin};

/// Environment variable: which QEMU.
pub(super) const QEMU_ENV: &str = "STALELINE_QEMU";

/// The first QEMU with version 4 of the plugin interface (register reads came before it, in
/// version 2; later versions of QEMU still load plugins of version 4).
const OLDEST: QemuVersion = QemuVersion { major: 9, minor: 2 };

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// `QEMU emulator version 10.0.2 (Debian …)`.
fn parse_version(output: &str) -> Option<QemuVersion> {
    let rest = output.strip_prefix("QEMU emulator version ")?;
    let mut numbers = rest
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().ok());
    Some(QemuVersion {
        major: numbers.next()??,
        minor: numbers.next()??,
    })
}

pub(in crate::engine) fn qemu_program() -> PathBuf {
    std::env::var_os(QEMU_ENV)
        .unwrap_or_else(|| "qemu-system-aarch64".into())
        .into()
}

/// How long a program may take to say what it is.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Whether that is a QEMU, and new enough; asked for at most `limit`.
pub(super) fn check_qemu(program: &Path, limit: Duration) -> Result<QemuVersion, QemuError> {
    let output = child::output_within(Command::new(program).arg("--version"), limit);
    let output = output.map_err(|source| match source.kind() {
        io::ErrorKind::TimedOut => QemuError::Unknown {
            program: program.to_owned(),
            output: format!("nothing within {} s", limit.as_secs_f32()),
        },
        _ => QemuError::Missing {
            program: program.to_owned(),
            source,
        },
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = parse_version(&text).ok_or_else(|| QemuError::Unknown {
        program: program.to_owned(),
        output: text.chars().take(100).collect(),
    })?;
    if found < OLDEST {
        return Err(QemuError::TooOld {
            found: found.to_string(),
            needed: OLDEST.to_string(),
        });
    }
    Ok(found)
}

/// QEMU and the plugin.
pub(super) fn files() -> Vec<PathBuf> {
    let qemu = which::which(qemu_program()).ok();
    qemu.into_iter().chain(plugin::find().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_and_ordered() {
        let parse = |s| parse_version(s).map(|v| (v.major, v.minor));
        assert_eq!(
            parse("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"),
            Some((10, 0))
        );
        assert_eq!(parse("QEMU emulator version 9.1.93"), Some((9, 1)));
        for bad in [
            "",
            "bash 5.2",
            "QEMU emulator version x.y",
            "QEMU emulator version 9",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let version = |major, minor| QemuVersion { major, minor };
        assert!(version(9, 1) < OLDEST && version(10, 0) > OLDEST);
        assert!(parse("QEMU emulator version 99999999999.0").is_none());
    }
}
