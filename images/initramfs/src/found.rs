// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whether a program is there that the guest is to start from the file system that it is given, and can be
//! started: what the agent and the guest's kernel would say, before they are asked.

use std::collections::VecDeque;

use super::error::InitramfsError;
use super::inputs::{Entry, Inputs};
use super::programs::asks;

/// Directories on which something else is mounted by then, or the agent's own.
const MOUNTED: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];
const INIT: &str = "init";

/// Links that are followed on one way, as by the kernel (MAXSYMLINKS).
const LINKS: usize = 40;

/// Who may execute a file.
const EXECUTE: u32 = 0o111;

/// Where an ELF file says for which machine it is, and those that are of the guest's (ELF for the Arm
/// architectures; a kernel may run both).
const MACHINE: std::ops::Range<usize> = 18..20;
const MACHINES: [u16; 2] = [40, 183];

/// What a path leads to.
#[derive(Debug)]
enum Found<'a> {
    File(u32, &'a [u8]),
    Directory,
    Nothing,
    /// What is there, the guest knows.
    Unknown,
}

impl Inputs {
    /// That a program can be started, as the agent does it: a bare name is looked for in the places of `path`,
    /// with `:` between them, and a path that is relative starts at `dir`.
    ///
    /// # Errors
    /// [`InitramfsError::BadProgram`], if it certainly cannot.
    pub fn can_start(&self, program: &str, path: &str, dir: &str) -> Result<(), InitramfsError> {
        let places = path.split(':').filter(|place| !place.is_empty());
        let bare = !program.contains('/');
        let mut unknown = false;
        let mut found = None;
        for place in places.filter(|_| bare) {
            let file = format!("{place}/{program}");
            match self.find(&file) {
                Found::File(..) => {
                    found = Some(file);
                    break;
                }
                Found::Unknown => unknown = true,
                Found::Directory | Found::Nothing => {}
            }
        }
        if found.is_none() && unknown {
            return Ok(());
        }
        let is_in_path = found.is_some();
        let file = found.unwrap_or_else(|| match program.starts_with('/') {
            true => program.to_owned(),
            false => format!("{dir}/{program}"),
        });
        let why = match self.find(&file) {
            Found::Unknown => return Ok(()),
            Found::Nothing if bare && !is_in_path => {
                format!("it is in none of {path}{}", self.elsewhere(program))
            }
            Found::Nothing => format!(
                "there is no such file{}{}",
                self.of_which(),
                self.elsewhere(program)
            ),
            Found::Directory => "it is a directory".into(),
            Found::File(mode, bytes) => match self.obstacle(mode, bytes) {
                None => return Ok(()),
                Some(why) => why,
            },
        };
        Err(InitramfsError::BadProgram {
            path: if bare && !is_in_path {
                program.into()
            } else {
                file.into()
            },
            why,
        })
    }

    /// What keeps a file from being executed.
    fn obstacle(&self, mode: u32, bytes: &[u8]) -> Option<String> {
        if mode & EXECUTE == 0 {
            return Some("nobody may execute it: chmod +x".into());
        }
        let (what, needed) = if bytes.starts_with(b"#!") {
            let line = bytes.get(2..)?.split(|b| *b == b'\n').next()?;
            let line = String::from_utf8_lossy(line);
            let word = line.split_ascii_whitespace().next()?.to_owned();
            ("the interpreter", word)
        } else {
            let machine = bytes
                .get(MACHINE)
                .filter(|_| bytes.starts_with(b"\x7fELF"))?;
            let machine = u16::from_le_bytes(machine.try_into().ok()?);
            if !MACHINES.contains(&machine) {
                return Some("it is not for arm64".into());
            }
            ("the dynamic linker", asks(bytes).ok()?.interpreter?)
        };
        let is_missing = needed.starts_with('/') && matches!(self.find(&needed), Found::Nothing);
        is_missing.then(|| format!("{what} {needed}, which it needs, is not there"))
    }

    /// Whose file system it is, if it is a directory's.
    fn of_which(&self) -> String {
        let root = self.hashed().iter().find(|(input, _)| input.guest == "/");
        root.map_or(String::new(), |(input, _)| {
            format!(" in {}", input.host.display())
        })
    }

    /// Where there is a program of that name, as the end of a sentence.
    fn elsewhere(&self, program: &str) -> String {
        let end = format!("/{}", program.rsplit('/').next().unwrap_or(program));
        let known = self.entries.iter().find_map(|(name, entry)| {
            let name = format!("/{}", String::from_utf8_lossy(name));
            let is_it = matches!(entry, Entry::File { mode, .. } if mode & EXECUTE != 0);
            (is_it && name.ends_with(&end)).then_some(name)
        });
        known.map_or(String::new(), |known| format!("; there is {known}"))
    }

    /// What an absolute path leads to, links and all.
    fn find(&self, path: &str) -> Found<'_> {
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect()
        };
        let mut left: VecDeque<Vec<u8>> = parts(path.as_bytes()).into();
        let mut at: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(part),
            }
            if let [top, ..] = &at[..]
                && (MOUNTED.iter().any(|m| m.as_bytes() == top) || top == INIT.as_bytes())
            {
                return Found::Unknown;
            }
            match self.entries.get(&at.join(&b'/')) {
                Some(Entry::Directory) => {}
                Some(Entry::Link(target)) => {
                    links += 1;
                    if links > LINKS {
                        return Found::Nothing;
                    }
                    match target.first() {
                        Some(b'/') => at.clear(),
                        _ => drop(at.pop()),
                    }
                    for part in parts(target).into_iter().rev() {
                        left.push_front(part);
                    }
                }
                Some(Entry::File { mode, bytes }) => {
                    let rest = left.iter().any(|part| !part.is_empty());
                    return if rest {
                        Found::Nothing
                    } else {
                        Found::File(*mode, bytes)
                    };
                }
                None => return Found::Nothing,
            }
        }
        Found::Directory
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::Input;

    const PATH: &str = "/usr/bin::/bin";

    /// A file system like those of distributions.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let top = root.path();
        for dir in ["usr/bin", "opt/own", "root", "etc/alternatives"] {
            fs::create_dir_all(top.join(dir)).unwrap();
        }
        symlink("usr/bin", top.join("bin")).unwrap();
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16..20].copy_from_slice(&[2, 0, 183, 0]);
        elf[20] = 1;
        elf[52] = 64;
        let mut foreign = elf.clone();
        foreign[18] = 62;
        for (name, bytes, mode) in [
            ("usr/bin/tool", &elf[..], 0o755),
            ("usr/bin/foreign", &foreign, 0o755),
            ("usr/bin/plain", &elf, 0o644),
            ("usr/bin/script", b"#! /bin/tool -x\n", 0o755),
            ("usr/bin/orphan", b"#!/usr/bin/perl\n", 0o755),
            ("opt/own/far", &elf, 0o755),
            ("root/local", &elf, 0o755),
        ] {
            let file = top.join(name);
            fs::write(&file, bytes).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("/usr/bin/tool", top.join("etc/alternatives/cc")).unwrap();
        symlink("../../etc/alternatives/cc", top.join("usr/bin/cc")).unwrap();
        symlink("loop", top.join("usr/bin/loop")).unwrap();
        root
    }

    #[test]
    fn a_program_that_is_there_can_be_started() {
        let root = root();
        let given = [Input {
            host: root.path().into(),
            guest: "/".into(),
        }];
        let inputs = Inputs::read(None, &given, &[], 1 << 20).unwrap();
        let of = |program: &str| inputs.can_start(program, PATH, "/root");
        for good in [
            "tool",
            "cc",
            "script",
            "/bin/tool",
            "/usr/bin/../bin/./cc",
            "local",
            "./local",
            "/opt/own/far",
            // What comes with what is mounted there, or with the agent.
            "/proc/self/exe",
            "/tmp/x",
            "/init",
        ] {
            of(good).unwrap();
        }
        for (bad, why) in [
            ("none", "none of /usr/bin::/bin"),
            ("far", "there is /opt/own/far"),
            ("/usr/none", "there is no such file in "),
            ("/usr/bin/tool/x", "no such file"),
            ("loop", "none of"),
            ("/usr/bin/loop", "no such file"),
            ("/bin", "is a directory"),
            ("plain", "chmod +x"),
            ("foreign", "not for arm64"),
            (
                "orphan",
                "the interpreter /usr/bin/perl, which it needs, is not there",
            ),
        ] {
            let e = of(bad).unwrap_err();
            assert!(matches!(e, InitramfsError::BadProgram { .. }));
            assert!(e.to_string().contains(why), "{bad}: {e}");
        }
        // Its places may be some that only the guest has.
        inputs.can_start("none", "/run/bin:/bin", "/root").unwrap();
    }
}
