// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Places in the guest's file system that are the agent's.

/// The agent.
pub const INIT: &str = "/init";

/// What the agent is given beside its plan.
pub const OWN: &str = "/.staleline";

/// Where a program's home is, and where it starts.
pub const HOME: &str = "/root";

/// Where the agent mounts an empty file system in memory for a program.
pub const EMPTY: [&str; 3] = ["/tmp", "/dev/shm", "/run"];

/// Where something is mounted, by the kernel's file systems and [`EMPTY`]: what a file system has there
/// already, nobody sees.
pub const MOUNTED: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// The mount point at or above a path, if there is one.
#[must_use]
pub fn hidden_by(path: &str) -> Option<&'static str> {
    MOUNTED
        .into_iter()
        .find(|place| is_at_or_below(path, place))
}

/// Whether a path is `place`, or one below it.
#[must_use]
pub fn is_at_or_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_begin_alike_are_others() {
        assert_eq!(hidden_by("/tmp"), Some("/tmp"));
        assert_eq!(hidden_by("/dev/shm/x"), Some("/dev"));
        assert_eq!(hidden_by("/device"), None);
        assert_eq!(hidden_by("/root/tmp"), None);
        for place in EMPTY {
            assert!(hidden_by(place).is_some(), "{place}");
        }
    }
}
