// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an engine says of itself.

use std::path::PathBuf;

use staleline_devices::fidelity::Sight;
use staleline_support::cache::CacheDir;
use staleline_support::progress::Progress;

use super::{Engine, EngineError};

/// Under which name it is logged what devices of the guest complain of.
pub const GUEST_LOG: &str = "staleline::guest";

/// What is known of an engine before it is looked for.
#[derive(Debug)]
pub struct Description {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// The command line's option for arguments that it alone understands, without dashes.
    pub arguments: &'static str,
    /// Which of these it is not to be given, and why.
    pub refuses: fn(&str) -> Option<&'static str>,
    /// What it sees of the guest.
    pub sees: &'static [Sight],
    /// What it does not see, but finds out later.
    pub finds: &'static [Sight],
    /// Whether the same command does the same each time, down to the last access.
    pub exact: bool,
    /// Whether it can hand devices of the host\'s over to the guest.
    pub hands_over: bool,
    /// Kernels that tell it what it cannot see, through the coherency port.
    pub told_by: Option<Told>,
    /// Whether guests can be saved, and go on from there.
    pub saves: bool,
    /// Makes what it needs and is not there, if it can be made; may take minutes.
    pub make: fn(&dyn Progress) -> Result<(), EngineError>,
    /// What it keeps in the cache, each with its kind.
    pub kept: fn(&CacheDir) -> Vec<(&'static str, PathBuf)>,
    /// Finds it on this machine.
    pub discover: fn() -> Result<Box<dyn Engine>, EngineError>,
    /// The programs and files that it uses.
    pub places: fn() -> Places,
    /// What it needs of this machine, and whether that is there.
    pub needs: fn() -> Vec<Requirement>,
    /// Files whose content decides what it does.
    pub files: fn() -> Vec<PathBuf>,
}

/// What a kernel has that tells an engine what that cannot see.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// The configuration of ours.
    pub config: &'static str,
    /// The option that this is about.
    pub option: &'static str,
}

/// Programs and files: what, where, and the variable that would name another.
pub type Places = Vec<(&'static str, String, Option<&'static str>)>;

/// Something that an engine needs.
#[derive(Debug)]
pub struct Requirement {
    /// What, in a few words.
    pub name: &'static str,
    /// What was found, or what is the matter and how to mend it.
    pub found: Result<String, (String, String)>,
}
