// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The archive itself: cpio in the "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

use cpio::NewcBuilder;

const DIRECTORY: u32 = 0o040_755;
const CONSOLE: u32 = 0o020_600;
const PROGRAM: u32 = 0o100_755;

/// Major and minor number of /dev/console (Documentation/admin-guide/devices.txt).
const CONSOLE_DEVICE: (u32, u32) = (5, 1);

/// Packs the agent as /init. The same agent gives the same bytes: times and owners are zero, and
/// inode numbers count from 1.
///
/// # Errors
/// If the agent is 4 GiB or larger.
pub(super) fn pack(agent: &[u8]) -> io::Result<Vec<u8>> {
    let size = u32::try_from(agent.len())
        .map_err(|_| io::Error::other("the agent is larger than 4 GiB"))?;
    let mut out = Vec::with_capacity(agent.len() + 2048);
    let entry = |name, ino, mode| NewcBuilder::new(name).ino(ino).mode(mode);
    // Directories before what is in them; the agent mounts file systems on them.
    entry("dev", 1, DIRECTORY).write(&mut out, 0).finish()?;
    entry("proc", 2, DIRECTORY).write(&mut out, 0).finish()?;
    entry("sys", 3, DIRECTORY).write(&mut out, 0).finish()?;
    // The kernel opens it as /init's standard input and output before there is a devtmpfs.
    entry("dev/console", 4, CONSOLE)
        .rdev_major(CONSOLE_DEVICE.0)
        .rdev_minor(CONSOLE_DEVICE.1)
        .write(&mut out, 0)
        .finish()?;
    let mut init = entry("init", 5, PROGRAM).write(&mut out, size);
    init.write_all(agent)?;
    init.finish()?;
    cpio::newc::trailer(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use cpio::NewcReader;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Entry {
        name: String,
        mode: u32,
        device: (u32, u32),
        content: Vec<u8>,
    }

    fn unpack(archive: &[u8]) -> Vec<Entry> {
        let mut rest = archive;
        let mut found = Vec::new();
        loop {
            let reader = NewcReader::new(rest).unwrap();
            let e = reader.entry();
            if e.is_trailer() {
                return found;
            }
            assert_eq!((e.mtime(), e.uid(), e.gid()), (0, 0, 0));
            let (name, mode) = (e.name().to_owned(), e.mode());
            let device = (e.rdev_major(), e.rdev_minor());
            let mut content = Vec::new();
            rest = reader.to_writer(&mut content).unwrap();
            found.push(Entry {
                name,
                mode,
                device,
                content,
            });
        }
    }

    #[test]
    fn holds_what_the_kernel_and_the_agent_need() {
        // An odd size, so that padding matters.
        let agent = vec![0xa5; 1234 + 1];
        let found = unpack(&pack(&agent).unwrap());
        let names: Vec<_> = found.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["dev", "proc", "sys", "dev/console", "init"]);
        assert!(found[..3].iter().all(|e| e.mode == DIRECTORY));
        assert_eq!((found[3].mode, found[3].device), (CONSOLE, (5, 1)));
        assert_eq!(found[4].mode, PROGRAM);
        assert_eq!(found[4].content, agent);
    }

    #[test]
    fn same_agent_same_bytes() {
        assert_eq!(pack(b"agent").unwrap(), pack(b"agent").unwrap());
        assert_ne!(pack(b"agent").unwrap(), pack(b"other").unwrap());
    }
}
