// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! From archives of packages to files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use staleline_support::child;

use super::error::{PackagesError, program};

const DPKG: &str = "dpkg-deb";
const TAR: &str = "tar";

/// Directories that are links into /usr, as on every Debian since 12: a package may have its files in
/// either.
const MERGED: [&str; 3] = ["bin", "lib", "sbin"];

/// What is there before any package.
pub(super) fn skeleton(root: &Path) -> Result<(), PackagesError> {
    for name in MERGED {
        let (dir, link) = (root.join("usr").join(name), root.join(name));
        fs::create_dir_all(&dir).map_err(PackagesError::io("create", &dir))?;
        symlink(format!("usr/{name}"), &link).map_err(PackagesError::io("create", &link))?;
    }
    Ok(())
}

/// Unpacks a `.deb` file. Owners are left out: in the guest, all is root's.
pub(super) fn archive(deb: &Path, root: &Path) -> Result<(), PackagesError> {
    let (dpkg, tar) = (program(DPKG)?, program(TAR)?);
    let cannot = |program| {
        move |e: std::io::Error| PackagesError::Failed {
            program,
            status: "it could not be run".into(),
            said: e.to_string(),
        }
    };
    let mut from = Command::new(dpkg)
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot(DPKG))?;
    let stream = from.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let complaints = from.stderr.take().map(child::collect);
    let unpacked = Command::new(tar)
        .args([
            "--extract",
            "--preserve-permissions",
            "--no-same-owner",
            // One that has files in /lib must not make a directory of the link.
            "--keep-directory-symlink",
            "--file=-",
            "--directory",
        ])
        .arg(root)
        .env("LC_ALL", "C")
        .stdin(stream)
        .output();
    let status = from.wait().map_err(cannot(DPKG))?;
    let unpacked = unpacked.map_err(cannot(TAR))?;
    let said = complaints.and_then(|thread| thread.join().ok());
    let said = said.unwrap_or_default();
    for (program, status, said) in [
        (TAR, unpacked.status, &unpacked.stderr),
        (DPKG, status, &said),
    ] {
        if !status.success() {
            return Err(PackagesError::Failed {
                program,
                status: status.to_string(),
                said: child::complaint(said),
            });
        }
    }
    Ok(())
}
