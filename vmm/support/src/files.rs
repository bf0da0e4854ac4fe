// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Files that appear whole or not at all.

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::NamedTempFile;

/// Permissions of a file that anybody may read; the umask applies.
pub const READABLE: u32 = 0o644;

/// Permissions of a program; the umask applies.
pub const EXECUTABLE: u32 = 0o755;

/// Opens a file to be read that somebody has named: a device or a pipe in its place may never end, or not
/// even begin.
///
/// # Errors
/// What the file system says; that it is no file.
pub fn open(path: &Path) -> io::Result<fs::File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// All of such a file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces a file, creating its directory, such that a reader or a crash finds the old content or
/// the new one. The file is created with the permissions `mode` less the umask.
///
/// # Errors
/// What the file system says; the old content stays.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let file = staged(path, content, mode)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// As [`write_atomically`], but without waiting for the disk: whole for all who read it while the machine
/// runs.
///
/// # Errors
/// What the file system says; the old content stays.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    staged(path, content, mode)?.persist(path)?;
    Ok(())
}

/// As [`write_atomically`], but with exactly these permissions, and without waiting for the disk: for
/// thousands of files of a tree that is made again if the machine stops.
///
/// # Errors
/// What the file system says; the old content stays.
pub fn replace_with(path: &Path, content: &[u8], permissions: Permissions) -> io::Result<()> {
    let file = staged(path, content, 0o600)?;
    file.as_file().set_permissions(permissions)?;
    file.persist(path)?;
    Ok(())
}

/// The content in a file beside the one it is to replace.
fn staged(path: &Path, content: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    fs::create_dir_all(dir)?;
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(dir)?;
    file.write_all(content)?;
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
            let said = read(path).unwrap_err().to_string();
            assert!(said.contains("not a regular file"), "{said}");
        }
        fs::write(dir.path().join("file"), "x").unwrap();
        assert_eq!(read(&dir.path().join("file")).unwrap(), b"x");
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/file");
        write_atomically(&path, b"one", READABLE).unwrap();
        write_atomically(&path, b"two", READABLE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1);
        replace_with(&path, b"three", Permissions::from_mode(0o751)).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o751);
    }

    #[test]
    fn a_directory_in_its_place_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write_atomically(dir.path(), b"", READABLE).is_err());
        assert!(dir.path().is_dir());
    }
}
