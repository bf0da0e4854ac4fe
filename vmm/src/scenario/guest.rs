// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The `[guest]` table: what is expected of the guest.

use serde::{Deserialize, Serialize};

use super::append;
use super::outside::{Gadget, Iio};
use staleline_results::KernelReport;

/// Entries of `allow-reports`.
pub const MAX_ALLOWED: usize = 32;
/// Bytes of each.
pub const ALLOWED_BYTES: std::ops::RangeInclusive<usize> = 8..=200;

/// Overlays at most.
const MAX_OVERLAYS: usize = 16;

/// How they are named on the command line.
pub const DTB_OVERLAY: &str = "--dtb-overlay";

/// The `[guest]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GuestSettings {
    /// The CPU that the agent stays on, below `board.cpus`; by default the kernel decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u8>,
    /// Parts of headlines of reports of the guest's kernel that are known and harmless: such
    /// reports are told as warnings and do not make the run a failure. A report that stops the
    /// kernel leaves a run that checked less than it should, allowed or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_reports: Vec<String>,
    /// More kernel command line, at the end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub append: String,
    /// A program to be run, and its arguments: a file of the host, which the guest gets together with the
    /// libraries that it needs, or with `root` one of that. It counts as a test that has failed if
    /// its exit code is not 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    /// Files and directories of the host that the guest gets, `SOURCE` or `SOURCE:DESTINATION`; to
    /// `/root` if no destination is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Variables of the program's environment, `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Directories of the host where the program's libraries are looked for first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub library_path: Vec<String>,
    /// A file of the host that is the program's standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// A USB gadget for the program, and what the host moves through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gadget: Option<Gadget>,
    /// What the program moves through the converters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iio: Option<Iio>,
    /// Modules that the kernel gets before all else begins, in this order: `FILE.ko` or
    /// `FILE.ko:PARAMETERS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Overlays on the board's device tree, in order: source or blobs, files of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dtb_overlay: Vec<String>,
    /// A directory of the host with a file system for the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Debian's packages of which such a file system is made, with what they depend on: `NAME` or
    /// `NAME=VERSION`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// One of the kernel's own tests, `COLLECTION:TEST`, in place of `exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selftest: Option<String>,
    /// Whether what the program writes to its standard output is to be what the ADC has brought. It is
    /// compared with the pattern in the guest, and not passed on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check_output: bool,
    /// Whether the program may switch the machine off instead of ending, as people do at a prompt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_power_off: bool,
}

impl GuestSettings {
    /// The reports, each marked as allowed or not.
    pub fn marked<'a>(&self, reports: impl Iterator<Item = &'a KernelReport>) -> Vec<KernelReport> {
        let allowed = |headline: &str| {
            self.allow_reports
                .iter()
                .any(|part| headline.contains(part))
        };
        let marked = reports.map(|report| KernelReport {
            allowed: allowed(&report.headline),
            ..report.clone()
        });
        marked.collect()
    }
}

/// Checks all bounds, for a board with so many CPUs; what is wrong, for people.
pub(super) fn check(settings: &GuestSettings, cpus: u8) -> Result<(), String> {
    if let Some(cpu) = settings.cpu.filter(|cpu| *cpu >= cpus) {
        return Err(format!(
            "guest.cpu = {cpu} must be below board.cpus, which is {cpus}"
        ));
    }
    append::check(&settings.append)?;
    let overlays = settings.dtb_overlay.len();
    if overlays > MAX_OVERLAYS {
        return Err(format!(
            "guest.dtb-overlay has {overlays} entries, at most {MAX_OVERLAYS} may be given"
        ));
    }
    let allowed = &settings.allow_reports;
    if allowed.len() > MAX_ALLOWED {
        return Err(format!(
            "guest.allow-reports has {} entries, at most {MAX_ALLOWED} may be given",
            allowed.len()
        ));
    }
    // What is too short would allow nearly anything.
    let good = |part: &&String| {
        ALLOWED_BYTES.contains(&part.trim().len())
            && ALLOWED_BYTES.contains(&part.len())
            && !part.chars().any(char::is_control)
    };
    match allowed.iter().find(|part| !good(part)) {
        None => Ok(()),
        Some(bad) => Err(format!(
            "guest.allow-reports: {bad:?} must be a part of a report's headline, {} to {} bytes \
             of text",
            ALLOWED_BYTES.start(),
            ALLOWED_BYTES.end()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(parts: &[&str]) -> GuestSettings {
        GuestSettings {
            allow_reports: parts.iter().map(|p| (*p).to_owned()).collect(),
            ..GuestSettings::default()
        }
    }

    #[test]
    fn the_agents_cpu_is_one_of_the_board() {
        let on = |cpu| GuestSettings {
            cpu: Some(cpu),
            ..GuestSettings::default()
        };
        check(&on(1), 2).unwrap();
        let why = check(&on(2), 2).unwrap_err();
        assert_eq!(why, "guest.cpu = 2 must be below board.cpus, which is 2");
    }

    #[test]
    fn what_would_allow_anything_is_refused() {
        check(
            &settings(&["drivers/usb/dwc3/ep0.c", "possible circular"]),
            1,
        )
        .unwrap();
        let long = "x".repeat(201);
        for bad in ["", "       ", "        ", "BUG", "tab\tbetween", &long] {
            let why = check(&settings(&[bad]), 1).unwrap_err();
            assert!(why.contains("guest.allow-reports"), "{why}");
        }
        let many = vec!["WARNING: x"; 33];
        assert!(
            check(&settings(&many), 1)
                .unwrap_err()
                .contains("33 entries")
        );
    }
}
