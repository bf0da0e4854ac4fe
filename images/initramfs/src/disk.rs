// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A disk to boot from: an ext2 file system with the agent as /init, made by e2fsprogs. The same agent
//! gives the same bytes: identifiers and times are fixed, and there is no journal.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use staleline_protocol::disk;
use staleline_support::cache::CacheDir;
use staleline_support::digest::{self, FieldHasher};
use staleline_support::files;
use staleline_support::progress::Progress;

use crate::{InitramfsError, build_agent, loadable};

/// Part of every disk's key: raised whenever the way it is made changes.
const RECIPE: u32 = 1;

/// Size of the file system. The agent has 1 to 4 MiB, and what it writes has room beside it.
const BYTES: u64 = 16 << 20;

/// 2026-01-01, where the guest's clock starts; for e2fsprogs, whose older versions know no
/// SOURCE_DATE_EPOCH.
const TIME: (&str, &str) = ("E2FSPROGS_FAKE_TIME", "1767225600");

/// Identifiers that would be random.
const UUID: &str = "57414c45-4c49-4e45-8000-000000000001";
const EXTENDED: &str = "root_owner=0:0,hash_seed=57414c45-4c49-4e45-8000-000000000002,nodiscard";

/// Where distributions keep programs that are not on everybody's PATH.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// A finished disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its image.
    pub path: PathBuf,
    /// The agent in it, with its symbols. Linked at a fixed address.
    pub agent_elf: PathBuf,
    /// SHA-256 of the image, in hexadecimal.
    pub hash: String,
}

/// Why there is no disk. All of it is trouble with this machine, never a test result.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// There is no agent to put on it.
    #[error(transparent)]
    Agent(#[from] InitramfsError),
    /// A program that is not installed.
    #[error("making the guest's disk needs {0}: install e2fsprogs (scripts/setup does)")]
    Missing(&'static str),
    /// A program's complaint.
    #[error("making the guest's disk failed: {program} ended with {status}: {said}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// What it said last.
        said: String,
    },
    /// The file system is not as it should be.
    #[error("making the guest's disk failed: debugfs did not put {0} on it; is the disk full?")]
    Incomplete(String),
    /// A file operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, e.g. `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io {
        action,
        path,
        source,
    }
}

/// The disk with the agent of the current sources.
///
/// # Errors
/// [`DiskError`]; none of them is a test result.
pub fn disk(cache: &CacheDir, progress: &dyn Progress) -> Result<Disk, DiskError> {
    let agent_elf = build_agent(cache, progress)?;
    make(agent_elf, cache, progress)
}

fn make(agent_elf: PathBuf, cache: &CacheDir, progress: &dyn Progress) -> Result<Disk, DiskError> {
    let init = loadable(&agent_elf)?;
    let mut key = FieldHasher::default();
    key.field(RECIPE.to_le_bytes());
    key.field(&init);
    for file in disk::files() {
        key.field(file.name.as_bytes());
        key.field(&file.content);
    }
    let key = digest::short(&key.finish()).to_owned();
    let path = cache.join("disk").join(format!("{key}.img"));
    // Written last, so where it is, the image is whole.
    let hash_path = path.with_extension("sha256");
    if path.is_file()
        && let Ok(hash) = fs::read_to_string(&hash_path)
    {
        return Ok(Disk {
            path,
            agent_elf,
            hash,
        });
    }
    progress.step("making the guest's disk");
    let image = file_system(&init)?;
    let hash = digest::bytes(&image);
    for (path, bytes) in [(&path, image.as_slice()), (&hash_path, hash.as_bytes())] {
        files::write_atomically(path, bytes, files::READABLE).map_err(failed("write", path))?;
    }
    Ok(Disk {
        path,
        agent_elf,
        hash,
    })
}

/// The image.
fn file_system(init: &[u8]) -> Result<Vec<u8>, DiskError> {
    let (mke2fs, debugfs) = (find("mke2fs")?, find("debugfs")?);
    let dir =
        tempfile::tempdir().map_err(failed("create a directory in", &std::env::temp_dir()))?;
    let image = dir.path().join("disk");
    let file = fs::File::create(&image).map_err(failed("create", &image))?;
    file.set_len(BYTES).map_err(failed("extend", &image))?;
    let mut format = Command::new(mke2fs);
    // By no configuration but this one.
    format
        .env("MKE2FS_CONFIG", "/dev/null")
        .args([
            "-q", "-F", "-t", "ext2", "-b", "4096", "-I", "256", "-N", "64", "-m", "0",
        ])
        .args(["-O", "none,filetype,sparse_super,large_file"])
        .args(["-U", UUID, "-E", EXTENDED])
        .arg(&image);
    run("mke2fs", format, "")?;

    let init = disk::File {
        name: "init",
        content: init.to_vec(),
    };
    let contents = [vec![init], disk::files()].concat();
    // Mount points. The kernel makes the nodes in /dev.
    let mut write = String::from("mkdir dev\nmkdir proc\nmkdir sys\n");
    let mut read = String::new();
    for (n, file) in contents.iter().enumerate() {
        // Names of ours on this side: debugfs has rules of its own for quotes.
        let (name, source) = (file.name, dir.path().join(n.to_string()));
        let mode = if n == 0 { "0100755" } else { "0100644" };
        write += &format!("write {n} {name}\nsif {name} mode {mode}\n");
        write += &format!("sif {name} uid 0\nsif {name} gid 0\n");
        read += &format!("dump {name} {n}.back\n");
        fs::write(&source, &file.content).map_err(failed("write", &source))?;
    }
    let debug = |options: &[&str], commands: &str| {
        let mut debug = Command::new(&debugfs);
        debug.current_dir(dir.path()).args(options).arg("disk");
        run("debugfs", debug, commands)
    };
    debug(&["-w", "-f", "-"], &write)?;
    // Whether it could, its status does not say; and a file for which there was no room has its length.
    debug(&["-f", "-"], &read)?;
    for (n, file) in contents.iter().enumerate() {
        let back = fs::read(dir.path().join(format!("{n}.back")));
        if back.ok().as_ref() != Some(&file.content) {
            return Err(DiskError::Incomplete(file.name.into()));
        }
    }
    fs::read(&image).map_err(failed("read", &image))
}

/// A program of e2fsprogs.
///
/// # Errors
/// [`DiskError::Missing`].
pub fn find(program: &'static str) -> Result<PathBuf, DiskError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
    let all = std::env::join_paths(places).unwrap_or(path);
    let found = which::which_in(program, Some(all), Path::new("/"));
    found.map_err(|_| DiskError::Missing(program))
}

/// Runs a program of e2fsprogs.
fn run(program: &'static str, mut command: Command, input: &str) -> Result<(), DiskError> {
    let with = |source| DiskError::Io {
        action: "run",
        path: program.into(),
        source,
    };
    let mut child = command
        .env(TIME.0, TIME.1)
        .env("LC_ALL", OsStr::new("C"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(with)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end early; its status tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(with)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(DiskError::Failed {
        program,
        status: output.status.to_string(),
        said: said.lines().last().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_agent_same_bytes() {
        let image = file_system(b"agent").unwrap();
        assert_eq!(image.len() as u64, BYTES);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(image == file_system(b"agent").unwrap());
        assert!(image != file_system(b"other").unwrap());
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let huge = vec![1; BYTES as usize];
        let made = file_system(&huge);
        assert!(matches!(&made, Err(DiskError::Incomplete(name)) if name == "init"));
    }

    #[test]
    fn what_is_not_installed_is_named() {
        let e = find("staleline-has-no-such-program").unwrap_err();
        assert!(e.to_string().contains("e2fsprogs"), "{e}");
    }
}
