// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The guest: what it was made of, how it ended and what it said.

use serde::{Deserialize, Serialize};

use crate::Place;

/// Identity of a guest kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelId {
    /// Patch stack's name, or path.
    pub name: String,
    /// Release, for example `6.12.117`.
    pub version: String,
    /// Patches, in order of application.
    pub stack: Vec<String>,
    /// Hash over everything it was made from, or of the image.
    pub hash: String,
    /// SHA-256 of the `Image`, in hexadecimal: before a run what it should be, if that is known,
    /// and after it what has booted.
    #[serde(default)]
    pub image_hash: Option<String>,
}

/// A file or directory that the guest was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Where the guest has it.
    pub guest: String,
    /// Where it came from.
    pub host: String,
    /// SHA-256 of it, in hexadecimal; of a directory, over all names and contents.
    pub hash: String,
}

/// A package of Debian's in the guest's file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the `.deb` file, in hexadecimal.
    pub hash: String,
}

/// The user's program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// It and its arguments, as the guest was told.
    pub argv: Vec<String>,
    /// Its exit code, if it came to one.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it has switched the machine off instead of ending, and was free to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub powered_off: bool,
    /// Processes that it had started and that were still there when it ended. They were ended then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left: u32,
    /// If it is one of the kernel's own tests, the results that it has told itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selftest: Option<Selftest>,
}

// serde hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Program {
    /// Whether nobody has seen it come to an end of any kind.
    pub fn is_open(&self) -> bool {
        self.code.is_none() && self.signal.is_none() && !self.powered_off
    }
}

/// What one of the kernel's own tests says of itself, in the words of TAP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selftest {
    /// Its name, as kselftest has it.
    pub name: String,
    /// Results that it announced, if it did.
    pub planned: Option<u32>,
    /// Those that are good, expected failures among them.
    pub passed: u32,
    /// Those that are not.
    pub failed: u32,
    /// Those that it left out.
    pub skipped: u32,
    /// What it says of the first that have failed.
    pub failures: Vec<String>,
    /// And of the first that it left out, or why it left out all.
    pub skips: Vec<String>,
}

impl Selftest {
    /// The exit code by which such a test says that it cannot test anything here.
    pub const SKIP: i32 = 4;

    /// Results that it has told.
    pub fn told(&self) -> u32 {
        self.passed
            .saturating_add(self.failed)
            .saturating_add(self.skipped)
    }
}

/// A module of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// What the kernel calls it.
    pub name: String,
    /// Its file in the guest.
    pub file: String,
    /// What it was given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameters: String,
    /// Whether its init has come to an end.
    pub ended: bool,
    /// The error of that, a number of errno, if it had one.
    pub error: Option<i32>,
    /// What the kernel said meanwhile, a message each, if that was an error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
}

impl Module {
    /// How its init has failed, in words, if it has.
    pub fn failure(&self) -> Option<String> {
        let error = std::io::Error::from_raw_os_error(self.error?.abs());
        let said = match &self.said[..] {
            [] => String::new(),
            said => format!("; the kernel says: {}", said.join("; ")),
        };
        Some(format!(
            "the init of module {} failed: {error}{said}",
            self.name
        ))
    }
}

/// The guest's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// How it ended.
    pub end: Option<GuestEnd>,
    /// Whether the agent started.
    pub booted: bool,
    /// Tests the agent announced.
    pub planned: Option<u32>,
    /// Their results.
    pub tests: Vec<KtapCase>,
    /// The kernel's reports on itself, in order; those of the same headline and call trace
    /// together.
    #[serde(default)]
    pub reports: Vec<KernelReport>,
    /// Such reports beyond those.
    #[serde(default)]
    pub reports_dropped: u64,
    /// First lines of what else of the kernel's messages is worth telling, and of those reports
    /// that the scenario allows.
    pub warnings: Vec<String>,
    /// The last lines of the console.
    pub console_tail: Vec<String>,
    /// The user's modules, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Module>,
    /// The user's program, if one was to be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
    /// The kernel would not attach a DMABUF to a device, so that no data was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

/// A DMABUF that a device may not share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The buffer, by order of allocation.
    pub buffer: u32,
    /// The device, as the guest calls it.
    pub to: String,
    /// The error: `EOPNOTSUPP`.
    pub error: String,
}

impl Refusal {
    /// In words.
    pub fn sentence(&self) -> String {
        format!(
            "the kernel refused to attach DMABUF {} to {}: {}",
            self.buffer, self.to, self.error
        )
    }
}

impl Guest {
    /// The kernel's reports that the scenario does not allow.
    pub fn complaints(&self) -> impl Iterator<Item = &KernelReport> {
        self.reports.iter().filter(|r| !r.allowed)
    }
}

/// How the guest ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum GuestEnd {
    /// It powered off.
    PoweredOff,
    /// The time limit was reached.
    TimedOut,
    /// The user did not want it to go on.
    Interrupted,
    /// The user has left its console, or ended it from a debugger.
    Left,
    /// It, or what ran it, stopped in another way.
    Died {
        /// In words.
        what: String,
    },
}

impl GuestEnd {
    /// Whether it was stopped from outside, so that when is a matter of the host.
    pub fn was_stopped(&self) -> bool {
        matches!(
            self,
            GuestEnd::TimedOut | GuestEnd::Interrupted | GuestEnd::Left
        )
    }
}

/// What people did with a guest while it ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attended {
    /// Bytes that were typed at its console, which was a terminal of the host's then. There is no such run
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typed: Option<u64>,
    /// Whether it began by the hand of a debugger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub debugger: bool,
}

impl Attended {
    /// Whether nobody did anything.
    pub fn is_none(&self) -> bool {
        *self == Attended::default()
    }
}

/// One KTAP result line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KtapCase {
    /// Its number.
    pub number: u32,
    /// Its description.
    pub name: String,
    /// Whether it passed, or was expected to fail.
    pub ok: bool,
    /// Whether it was skipped.
    pub skipped: bool,
}

/// Name of the kind of finding that each report of the kernel is.
pub const KERNEL_REPORT: &str = "kernel-report";

/// A report of the guest's kernel on itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelReport {
    /// What it is about.
    pub class: ReportClass,
    /// Its first line, for WARN() with the message.
    pub headline: String,
    /// The rest of its text, without registers and call trace.
    pub text: Vec<String>,
    /// The call trace, innermost function first: `name+offset`, and `[module]` behind it.
    pub chain: Vec<String>,
    /// Whether the kernel did not go on.
    pub fatal: bool,
    /// How many times it came.
    pub count: u64,
    /// Whether the scenario allows it (`guest.allow-reports`).
    pub allowed: bool,
    /// Where its call trace begins, with the rest of it as callers, if there is debug information. Symbols
    /// are as the kernel has them, which names where a caller goes on; addresses are those of calls, and 0
    /// of what has no debug information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl KernelReport {
    /// The innermost function, without offset; empty if unknown.
    pub fn function(&self) -> &str {
        let first = self.chain.first().map_or("", String::as_str);
        first.split('+').next().unwrap_or(first)
    }

    /// Whether another is the same once more.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.class, &self.headline, &self.chain) == (other.class, &other.headline, &other.chain)
    }
}

/// What a report of the kernel is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportClass {
    /// The kernel did what its CPU refused: a wild pointer, an undefined instruction.
    Oops,
    /// `BUG()`, or a check that ends in `BUG:`.
    Bug,
    /// `WARN()`.
    Warn,
    /// A panic that no other report led to.
    Panic,
    /// A task that slept too long without being woken.
    HungTask,
    /// A CPU that did not come back.
    Lockup,
    /// The address sanitizer.
    Kasan,
    /// The undefined-behaviour sanitizer.
    Ubsan,
    /// lockdep, might_sleep() and other checks of the rules of locking and of atomic context.
    Locking,
    /// RCU: a stall, or its rules broken.
    Rcu,
    /// The checks of the DMA API (CONFIG_DMA_API_DEBUG).
    DmaApi,
}

impl ReportClass {
    /// What it is, for people.
    pub fn what(self) -> &'static str {
        match self {
            ReportClass::Oops => "an oops",
            ReportClass::Bug => "a BUG",
            ReportClass::Warn => "a WARN",
            ReportClass::Panic => "a panic",
            ReportClass::HungTask => "a hung task",
            ReportClass::Lockup => "a CPU that is stuck",
            ReportClass::Kasan => "the address sanitizer",
            ReportClass::Ubsan => "the undefined-behaviour sanitizer",
            ReportClass::Locking => "the rules of locking",
            ReportClass::Rcu => "RCU",
            ReportClass::DmaApi => "the rules of the DMA API",
        }
    }
}
