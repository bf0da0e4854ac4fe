// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The agent's executable: is it one the guest can run, and what of it must be in memory.

use object::Endianness;
use object::elf::{EM_AARCH64, ET_DYN, ET_EXEC, FileHeader64, PT_INTERP, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

pub(super) type Header = FileHeader64<Endianness>;

// Places in the ELF64 header (System V ABI, "ELF Header").
const E_SHOFF: std::ops::Range<usize> = 40..48;
const E_SHNUM_SHSTRNDX: std::ops::Range<usize> = 60..64;

/// The header of an ELF file.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub(super) fn header(elf: &[u8]) -> Result<(&Header, Endianness), String> {
    let header = Header::parse(elf).map_err(|e| format!("it is no 64-bit ELF file ({e})"))?;
    let endian = header.endian().map_err(|e| e.to_string())?;
    Ok((header, endian))
}

/// Whether it is for little-endian arm64.
pub(super) fn is_for_the_guest(header: &Header, endian: Endianness) -> bool {
    endian == Endianness::Little && header.e_machine(endian) == EM_AARCH64
}

/// Whether it is a program or a library, and no object file.
pub(super) fn is_linked(header: &Header, endian: Endianness) -> bool {
    [ET_EXEC, ET_DYN].contains(&header.e_type(endian))
}

/// Checks that an executable can run in an arm64 guest with nothing else there, as its /init or its shell.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub(super) fn check(elf: &[u8]) -> Result<(), String> {
    let (header, endian) = header(elf)?;
    if !is_for_the_guest(header, endian) {
        return Err("it is not for little-endian arm64".into());
    }
    if !is_linked(header, endian) {
        return Err("it is no executable".into());
    }
    let segments = header
        .program_headers(endian, elf)
        .map_err(|e| e.to_string())?;
    if segments.iter().any(|s| s.p_type(endian) == PT_INTERP) {
        return Err("it is dynamically linked; the guest has no dynamic linker".into());
    }
    Ok(())
}

/// The executable without what is never loaded: symbols, line tables, section headers. Linkers put
/// all of that behind the last segment.
///
/// # Errors
/// If the ELF file is damaged.
pub(super) fn loadable(elf: &[u8]) -> object::read::Result<Vec<u8>> {
    let header = Header::parse(elf)?;
    let endian = header.endian()?;
    let mut end = size_of::<Header>() as u64;
    for segment in header.program_headers(endian, elf)? {
        // Other segments lie within these, apart from some that are not for running.
        if segment.p_type(endian) == PT_LOAD {
            let (at, len) = segment.file_range(endian);
            end = end.max(at.saturating_add(len));
        }
    }
    let table_len = u64::from(header.e_phnum(endian)) * u64::from(header.e_phentsize(endian));
    let table = header.e_phoff(endian).saturating_add(table_len);
    let end = usize::try_from(end.max(table)).unwrap_or(usize::MAX);
    let mut out = elf.get(..end).unwrap_or(elf).to_vec();
    for gone in [E_SHOFF, E_SHNUM_SHSTRNDX] {
        if let Some(field) = out.get_mut(gone) {
            field.fill(0);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    fn this_test() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn what_is_left_still_runs() {
        let whole = this_test();
        let left = loadable(&whole).unwrap();
        assert!(
            left.len() < whole.len(),
            "a test executable has symbols to lose"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stripped");
        std::fs::write(&path, left).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let list = Command::new(&path).arg("--list").output().unwrap();
        assert!(list.status.success(), "{list:?}");
        assert!(String::from_utf8_lossy(&list.stdout).contains("what_is_left_still_runs"));
    }

    #[test]
    fn a_dynamic_executable_is_refused() {
        let why = check(&this_test()).unwrap_err();
        let expected = if cfg!(target_arch = "aarch64") {
            "dynamically linked"
        } else {
            "not for little-endian arm64"
        };
        assert!(why.contains(expected), "{why}");
        assert!(check(b"#!/bin/sh\n").unwrap_err().contains("no 64-bit ELF"));
    }

    #[test]
    fn a_header_alone_will_do() {
        let mut elf = this_test();
        elf.truncate(size_of::<Header>());
        elf[16..18].copy_from_slice(&ET_EXEC.0.to_le_bytes());
        elf[18..20].copy_from_slice(&EM_AARCH64.0.to_le_bytes());
        // No program headers.
        elf[56..58].fill(0);
        assert_eq!(check(&elf), Ok(()));
        elf[16] = 1;
        assert_eq!(check(&elf), Err("it is no executable".into()));
    }
}
