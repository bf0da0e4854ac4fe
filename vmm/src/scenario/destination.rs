// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where the guest finds what it is given: places that are the agent's own, or hidden, are refused before
//! a guest starts that cannot work.

use std::path::{Component, Path};

use staleline_protocol::places::{INIT, OWN, hidden_by, is_at_or_below};

use super::guest::GuestSettings;

/// The kernel's NAME_MAX, and its PATH_MAX without the NUL (include/uapi/linux/limits.h).
const NAME_BYTES: usize = 255;
const PATH_BYTES: usize = 4095;

/// What is wrong with one of them, for people.
pub(super) fn check(settings: &GuestSettings) -> Result<(), String> {
    let program = settings.program().map(|p| p.guest);
    for file in settings.files_given() {
        if file.host.as_os_str().is_empty() {
            return Err("guest.files: it names no file".into());
        }
        let guest = file.guest.as_str();
        let wrong = |why: &str| Err(format!("guest.files: {guest}: {why}"));
        if !is_plain(guest) {
            return wrong("write the place in the guest without `.`, `..` and double slashes");
        }
        let long = |part: &str| part.len() > NAME_BYTES;
        if guest.len() > PATH_BYTES || guest.split('/').any(long) {
            return Err(format!(
                "guest.files: a place in the guest has at most {PATH_BYTES} bytes, and each name in it \
                 {NAME_BYTES}"
            ));
        }
        if is_at_or_below(guest, INIT) {
            return wrong("/init is Staleline's own, and a file");
        }
        if is_at_or_below(guest, OWN) {
            return wrong("what is below /.staleline is Staleline's own");
        }
        if let Some(mount) = hidden_by(guest) {
            return wrong(&format!(
                "the guest mounts a file system of its own at {mount}, which hides it: choose another \
                 place"
            ));
        }
        if program.as_deref() == Some(guest) {
            return wrong("it is the program that guest.exec names");
        }
        if let Some(program) = &program
            && is_at_or_below(guest, program)
        {
            return wrong("it would be below the program that guest.exec names, which is a file");
        }
    }
    Ok(())
}

/// Whether a path from the top is written in the only way in which it leads where it says.
fn is_plain(path: &str) -> bool {
    let normal = |part: Component| match part {
        Component::RootDir | Component::Normal(_) => true,
        Component::ParentDir | Component::CurDir | Component::Prefix(_) => false,
    };
    // Components leave out `.` and empty ones in the middle.
    let mut parts = path.split('/').skip(1);
    let whole = parts.all(|part| !part.is_empty() && part != ".");
    path.starts_with('/') && whole && Path::new(path).components().all(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a file that is put there, beside the program /root/prog.
    fn said(destination: &str) -> Option<String> {
        let settings = GuestSettings {
            exec: vec!["prog".into()],
            files: vec![format!("x:{destination}")],
            ..GuestSettings::default()
        };
        check(&settings).err()
    }

    #[test]
    fn places_that_are_not_free_are_told() {
        for (destination, word) in [
            ("/init", "Staleline's own"),
            ("/init/x", "Staleline's own"),
            ("//init", "double slashes"),
            ("/a/", ""),
            ("/root/../init", "`..`"),
            ("/root/./x", "`.`"),
            ("/.staleline/stdin", "/.staleline"),
            ("/tmp/x", "/tmp, which hides it"),
            ("/run/", "/run, which hides it"),
            ("/proc", "/proc"),
            ("/sys/kernel/x", "/sys"),
            ("/dev/x", "/dev"),
            ("/root/prog", "guest.exec"),
            ("/root/prog/x", "below the program"),
        ] {
            match said(destination) {
                Some(said) => assert!(!word.is_empty() && said.contains(word), "{said}"),
                None => assert_eq!(word, "", "{destination}"),
            }
        }
        let long = format!("/a/{}", "n".repeat(256));
        assert!(said(&long).unwrap().contains("255"));
        assert!(said(&"/d".repeat(2100)).unwrap().contains("4095"));
        for free in [
            "/",
            "/etc/x",
            "/initrd",
            "/tmpfile",
            "/root/program",
            "/root/.profile",
        ] {
            assert_eq!(said(free), None, "{free}");
        }
    }
}
