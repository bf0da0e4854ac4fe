// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The engines that there are, by name.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use staleline_devices::fidelity::{self, Fidelity, Sight};
use staleline_devices::hazard::HazardKind;
use staleline_support::cache::CacheDir;
use staleline_support::progress::Progress;

use super::description::{Description, Places, Requirement, Told};
use super::{Engine, EngineError, kvm, tcg};

/// An engine. The default is the exact one.
#[derive(Clone, Copy)]
pub struct EngineKind(&'static Description);

impl EngineKind {
    /// All engines.
    pub const ALL: [EngineKind; 2] = [EngineKind(&tcg::DESCRIPTION), EngineKind(&kvm::DESCRIPTION)];

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The one with that name.
    pub fn named(name: &str) -> Option<Self> {
        EngineKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The command line's option for arguments that it alone understands, without dashes.
    pub fn arguments_option(self) -> &'static str {
        self.0.arguments
    }

    /// Why it is not to be given that argument, if it is not.
    pub fn refuses(self, argument: &str) -> Option<&'static str> {
        (self.0.refuses)(argument)
    }

    /// What it can judge.
    pub fn fidelity(self) -> Fidelity {
        Fidelity::found(self.0.sees, self.0.finds)
    }

    /// What it lacks to judge findings of that kind where a master reads, or a CPU; nothing if it judges them.
    pub fn unseen(self, kind: HazardKind, by_master: bool) -> Vec<Sight> {
        fidelity::unseen(self.0.sees, self.0.finds, kind, by_master)
    }

    /// Whether it finds that out only when somebody comes to the memory, by what has changed there.
    pub fn finds_later(self, sight: Sight) -> bool {
        self.0.finds.contains(&sight)
    }

    /// Whether the same command does the same each time.
    pub fn is_exact(self) -> bool {
        self.0.exact
    }

    /// Whether its guests can be saved, and go on from there.
    pub fn saves(self) -> bool {
        self.0.saves
    }

    /// Whether it can hand devices of the host's over to the guest.
    pub fn hands_over(self) -> bool {
        self.0.hands_over
    }

    /// What kernels have that tell it what it cannot see, if any do.
    pub fn told_by(self) -> Option<Told> {
        self.0.told_by
    }

    /// The kernel that it boots for one of that name: with the configuration that makes it tell what the engine
    /// cannot see.
    pub fn kernel(self, name: &str) -> String {
        match self.0.told_by {
            Some(Told { config, .. }) if name.split('+').all(|part| part != config) => {
                format!("{name}+{config}")
            }
            _ => name.to_owned(),
        }
    }

    /// The name of that kernel without what [`EngineKind::kernel`] adds to it.
    pub fn asked(self, kernel: &str) -> String {
        let parts = kernel.split('+').enumerate();
        let own = |(n, part): &(usize, &str)| {
            *n == 0 || self.0.told_by.is_none_or(|told| told.config != *part)
        };
        let parts: Vec<&str> = parts.filter(own).map(|(_, part)| part).collect();
        parts.join("+")
    }

    /// The programs and files that it uses: what, where, and the variable that would name another.
    pub fn places(self) -> Places {
        (self.0.places)()
    }

    /// What it needs of this machine, and whether that is there.
    pub fn needs(self) -> Vec<Requirement> {
        (self.0.needs)()
    }

    /// What it keeps in the cache, each with its kind.
    pub fn kept(self, cache: &CacheDir) -> Vec<(&'static str, PathBuf)> {
        (self.0.kept)(cache)
    }

    /// Makes what it needs and is not there, if it can be made; may take minutes.
    ///
    /// # Errors
    /// Why that failed.
    pub fn make(self, progress: &dyn Progress) -> Result<(), EngineError> {
        (self.0.make)(progress)
    }

    /// Files whose content decides what it does, as far as they are there.
    pub fn files(self) -> Vec<PathBuf> {
        (self.0.files)()
    }

    /// Finds it on this machine.
    ///
    /// # Errors
    /// What is missing.
    pub fn discover(self) -> Result<Box<dyn Engine>, EngineError> {
        (self.0.discover)()
    }
}

impl Default for EngineKind {
    fn default() -> Self {
        EngineKind::ALL[0]
    }
}

impl PartialEq for EngineKind {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for EngineKind {}

impl fmt::Debug for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for EngineKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for EngineKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        EngineKind::named(&name).ok_or_else(|| {
            let names = EngineKind::ALL.map(EngineKind::name).join(", ");
            serde::de::Error::custom(format!("there is no engine `{name}`; there are: {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_adds_to_a_kernels_name_was_not_asked_for() {
        for kind in EngineKind::ALL {
            for name in ["base", "base+iommu+zones", "instrumented"] {
                assert_eq!(kind.asked(&kind.kernel(name)), name, "{kind}");
            }
        }
        let kvm = EngineKind::ALL[1];
        assert_eq!(kvm.kernel("base+lockdep"), "base+lockdep+instrumented");
        assert_eq!(kvm.kernel("base+instrumented"), "base+instrumented");
    }

    #[test]
    fn names_are_read_back() {
        for kind in EngineKind::ALL {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<EngineKind>(&text).unwrap(), kind);
        }
        let e = serde_json::from_str::<EngineKind>("\"xen\"").unwrap_err();
        assert!(e.to_string().contains("no engine `xen`"), "{e}");
        assert!(e.to_string().contains(EngineKind::default().name()), "{e}");
    }
}
