// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a program needs to run in the guest: itself, its dynamic linker, and the libraries that this
//! loads, found as it finds them (ld.so(8)), on the host.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::error::InitramfsError;
use super::executable::{header, is_for_the_guest, is_linked};
use super::extra::Extra;

/// Where distributions keep libraries for arm64, on any host.
const PLACES: [&str; 6] = [
    // Debian's cross compiler, and Fedora's.
    "/usr/aarch64-linux-gnu/lib",
    "/usr/aarch64-linux-gnu/sys-root/usr/lib64",
    // Multiarch, and arm64 hosts.
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
];

/// Where the guest's dynamic linker looks without being told.
const GUEST_LIBRARIES: &str = "/lib";

/// What an ELF file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asks {
    interpreter: Option<String>,
    libraries: Vec<String>,
    /// Where to look for them first.
    places: Vec<String>,
}

/// Files that a program at `host`, which is `guest` in the guest, needs, itself among them, besides
/// those that are `given` anyway.
///
/// # Errors
/// If it is no executable for arm64, or a library is not found.
pub fn closure(host: &Path, guest: &str, given: &[Extra]) -> Result<Vec<Extra>, InitramfsError> {
    let bad = |path: &Path, why: String| InitramfsError::BadProgram {
        path: path.to_owned(),
        why,
    };
    let mut found = BTreeMap::from([(guest.to_owned(), host.to_owned())]);
    let mut left = VecDeque::from([host.to_owned()]);
    while let Some(file) = left.pop_front() {
        let bytes = fs::read(&file).map_err(InitramfsError::io("read", &file))?;
        if file == host {
            executable(&file, &bytes).map_err(|why| bad(&file, why))?;
        }
        let asks = asks(&bytes).map_err(|why| bad(&file, why))?;
        let interpreter = asks.interpreter.iter().map(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            (name, path.clone())
        });
        let libraries = asks.libraries.iter();
        let libraries = libraries.map(|name| (&**name, format!("{GUEST_LIBRARIES}/{name}")));
        for (name, guest) in interpreter.chain(libraries) {
            let is_it = |path: &str| path.rsplit('/').next() == Some(name);
            if found.keys().any(|k| is_it(k)) || given.iter().any(|extra| is_it(&extra.to)) {
                continue;
            }
            let library = find(name, &file, &asks.places).ok_or_else(|| {
                let why = format!(
                    "it needs {name}, which is in none of {}: link it statically, give the guest that \
                     file (--file {name}:{GUEST_LIBRARIES}/{name}), or a whole file system (--root)",
                    PLACES.join(", ")
                );
                bad(&file, why)
            })?;
            left.push_back(library.clone());
            found.insert(guest, library);
        }
    }
    let extra = found.into_iter().map(|(to, from)| Extra { from, to });
    Ok(extra.collect())
}

/// What keeps a file from being run, as the end of a sentence.
fn executable(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(b"#!") {
        let why = "it is a script, and the guest's kernel runs none: run its interpreter with the script \
                   as an argument, from a file system that has it (--root)";
        return Err(why.into());
    }
    let (header, endian) = header(bytes)?;
    if !is_linked(header, endian) {
        return Err("it is an object file, and not linked".into());
    }
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Err("nobody may execute it: chmod +x".into())
        }
        _ => Ok(()),
    }
}

/// A library by name, for the file `of`, which names `first` places itself.
fn find(name: &str, of: &Path, first: &[String]) -> Option<PathBuf> {
    if name.contains('/') {
        return None;
    }
    let origin = of.parent().unwrap_or(of).to_string_lossy();
    let first = first.iter().map(|place| {
        let place = place.replace("${ORIGIN}", &origin);
        PathBuf::from(place.replace("$ORIGIN", &origin))
    });
    let fits = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| asks(&bytes).is_ok());
    first
        .chain(PLACES.map(PathBuf::from))
        .map(|place| place.join(name))
        .find(fits)
}

/// Reads it; what is wrong with it, as the end of a sentence.
fn asks(elf: &[u8]) -> Result<Asks, String> {
    let (header, endian) = header(elf)?;
    if !is_for_the_guest(header, endian) {
        return Err(
            "it is not for little-endian arm64: build it with aarch64-linux-gnu-gcc".into(),
        );
    }
    let bad = |e: object::read::Error| e.to_string();
    let mut asks = Asks::default();
    for segment in header.program_headers(endian, elf).map_err(bad)? {
        if let Some(path) = segment.interpreter(endian, elf).map_err(bad)? {
            asks.interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
    }
    let sections = header.sections(endian, elf).map_err(bad)?;
    let table = sections.dynamic_table(endian, elf).map_err(bad)?;
    for entry in &table {
        if ![DT_NEEDED, DT_RPATH, DT_RUNPATH].contains(&entry.tag) {
            continue;
        }
        let text = String::from_utf8_lossy(table.string(entry).map_err(bad)?);
        match entry.tag {
            DT_NEEDED => asks.libraries.push(text.into_owned()),
            _ => asks.places.extend(text.split(':').map(str::to_owned)),
        }
    }
    Ok(asks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_for_the_guest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(&text, "hello").unwrap();
        let e = closure(&text, "/root/text", &[]).unwrap_err().to_string();
        assert!(e.contains("no 64-bit ELF file"), "{e}");
        let e = closure(&dir.path().join("none"), "/root/none", &[]).unwrap_err();
        assert!(matches!(e, InitramfsError::Io { .. }), "{e}");
        if !cfg!(target_arch = "aarch64") {
            let own = std::env::current_exe().unwrap();
            let e = closure(&own, "/root/own", &[]).unwrap_err().to_string();
            assert!(e.contains("not for little-endian arm64"), "{e}");
        }
    }

    #[test]
    fn what_cannot_be_run_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let why = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            closure(&file, "/root/file", &[]).unwrap_err().to_string()
        };
        assert!(why(b"#!/bin/sh\n").contains("it is a script"));
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16..20].copy_from_slice(&[1, 0, 183, 0]);
        elf[20] = 1;
        elf[52] = 64;
        assert!(why(&elf).contains("not linked"));
        elf[16] = 2;
        assert!(why(&elf).contains("chmod +x"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let all = closure(&file, "/root/file", &[]).unwrap();
        assert_eq!((all.len(), &*all[0].to), (1, "/root/file"));
    }
}
