// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a program needs to run in the guest: itself, its dynamic linker, and the libraries that this
//! loads, found as it finds them (ld.so(8)), on the host.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::contents::Contents;
use super::error::InitramfsError;
use super::executable::{header, is_for_the_guest, is_linked};
use super::input::Input;

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
pub(super) struct Asks {
    pub interpreter: Option<String>,
    libraries: Vec<String>,
    /// Where to look for them first.
    places: Vec<String>,
}

/// Files that a program needs, itself among them, besides those that are `given` anyway. Libraries are
/// looked for in `places` first.
///
/// # Errors
/// If it is no executable for arm64, or a library is not found.
pub(super) fn closure(
    program: &Input,
    given: &[Input],
    places: &[PathBuf],
    contents: &mut Contents,
) -> Result<Vec<Input>, InitramfsError> {
    let bad = |path: &Path, why: String| InitramfsError::BadProgram {
        path: path.to_owned(),
        why,
    };
    let host = &program.host;
    let mut found = BTreeMap::from([(program.guest.clone(), host.clone())]);
    let mut left = VecDeque::from([host.clone()]);
    while let Some(file) = left.pop_front() {
        let bytes = contents.read(&file)?;
        if file == *host {
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
            if found.keys().any(|k| is_it(k)) || given.iter().any(|input| is_it(&input.guest)) {
                continue;
            }
            let library = match places_for(name, &file, places, &asks.places) {
                Some(places) => first_that_fits(&places, contents)?,
                None => None,
            };
            let library = library.ok_or_else(|| {
                let why = format!(
                    "it needs {name}, which is in none of {}: say where it is (--library-path), link it \
                     statically, or give the guest a whole file system (--root)",
                    PLACES.join(", ")
                );
                bad(&file, why)
            })?;
            left.push_back(library.clone());
            found.insert(guest, library);
        }
    }
    let inputs = found.into_iter().map(|(guest, host)| Input { host, guest });
    Ok(inputs.collect())
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
    if header.e_entry(endian) == 0 {
        return Err("it has no entry point: it is a library, and not a program".into());
    }
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Err("nobody may execute it: chmod +x".into())
        }
        _ => Ok(()),
    }
}

/// Where a library may be, for the file `of`, which names places itself; nowhere if its name is a path.
fn places_for(name: &str, of: &Path, first: &[PathBuf], own: &[String]) -> Option<Vec<PathBuf>> {
    if name.contains('/') {
        return None;
    }
    let origin = of.parent().unwrap_or(of).to_string_lossy();
    let own = own.iter().map(|place| {
        let place = place.replace("${ORIGIN}", &origin);
        PathBuf::from(place.replace("$ORIGIN", &origin))
    });
    let all = first.iter().cloned().chain(own);
    let all = all.chain(PLACES.map(PathBuf::from));
    Some(all.map(|place| place.join(name)).collect())
}

fn first_that_fits(
    files: &[PathBuf],
    contents: &mut Contents,
) -> Result<Option<PathBuf>, InitramfsError> {
    for file in files {
        if contents.read_if(file, |bytes| asks(bytes).is_ok())? {
            return Ok(Some(file.clone()));
        }
    }
    Ok(None)
}

/// Reads it; what is wrong with it, as the end of a sentence.
pub(super) fn asks(elf: &[u8]) -> Result<Asks, String> {
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

    fn of(host: &Path) -> Result<Vec<Input>, InitramfsError> {
        let program = Input {
            host: host.to_owned(),
            guest: "/root/file".into(),
        };
        closure(&program, &[], &[], &mut Contents::new(1 << 30))
    }

    #[test]
    fn what_is_not_for_the_guest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(&text, "hello").unwrap();
        let e = of(&text).unwrap_err().to_string();
        assert!(e.contains("no 64-bit ELF file"), "{e}");
        let e = of(&dir.path().join("none")).unwrap_err();
        assert!(matches!(e, InitramfsError::Io { .. }), "{e}");
        if !cfg!(target_arch = "aarch64") {
            let own = std::env::current_exe().unwrap();
            let e = of(&own).unwrap_err().to_string();
            assert!(e.contains("not for little-endian arm64"), "{e}");
        }
    }

    #[test]
    fn what_cannot_be_run_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let why = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            of(&file).unwrap_err().to_string()
        };
        assert!(why(b"#!/bin/sh\n").contains("it is a script"));
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16..20].copy_from_slice(&[1, 0, 183, 0]);
        elf[20] = 1;
        elf[52] = 64;
        assert!(why(&elf).contains("not linked"));
        elf[16] = 2;
        assert!(why(&elf).contains("it is a library"));
        elf[24] = 1;
        assert!(why(&elf).contains("chmod +x"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let all = of(&file).unwrap();
        assert_eq!((all.len(), &*all[0].guest), (1, "/root/file"));
    }
}
