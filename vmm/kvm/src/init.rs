// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! As the only process of an emulated machine.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};
use staleline_machine::engine::beside::PLAN;
use staleline_machine::engine::wire::PORT;

use crate::beside;
use crate::sandbox;
use crate::serve::serve;
use crate::vfio;

/// How long the port may take to appear: its driver's probe goes on while /init starts.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the kernel is told that memory which files are of may be in large pages, and that memory which is too little
/// for one may be in pages of some size between (Documentation/admin-guide/mm/transhuge.rst).
const LARGE_PAGES: [&str; 2] = [
    "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled",
];

const PORTS: &str = "/sys/class/virtio-ports";

/// Sets the machine up, serves the port until the other end is gone, and switches the machine off.
///
/// # Errors
/// If it cannot be switched off.
pub fn main() -> io::Result<()> {
    let done = match Path::new(PLAN).exists() {
        true => mounts().and_then(|()| beside::measure(Path::new(PLAN))),
        false => begin(),
    };
    if let Err(e) = done {
        // To the machine's own console, which is kept.
        eprintln!("staleline-kvm: {e}");
    }
    reboot(RebootCommand::PowerOff)?;
    Ok(())
}

fn mounts() -> io::Result<()> {
    for (kind, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount(kind, at, kind, MountFlags::empty(), None)
            .map_err(|e| context(format!("cannot mount {at}"), e.into()))?;
    }
    // As the host's kernel does for other memory. Without, each page takes a fault, and all takes longer.
    for kind in LARGE_PAGES {
        let _ = fs::write(kind, "always");
    }
    Ok(())
}

fn begin() -> io::Result<()> {
    mounts()?;
    let dir = Path::new("/run/vmm");
    fs::create_dir_all(dir)?;
    mount("tmpfs", dir, "tmpfs", MountFlags::empty(), None)
        .map_err(|e| context("cannot mount /run/vmm".into(), e.into()))?;
    let port = port()?;
    let port = File::options()
        .read(true)
        .write(true)
        .open(&port)
        .map_err(|e| context(format!("cannot open {}", port.display()), e))?;
    // Later, it may not.
    let devices = vfio::give_all();
    serve(dir, sandbox::enter(dir, true, devices), &port, &port)
}

fn context(what: String, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{what}: {e}"))
}

/// The device of the port of that name, when it is there.
fn port() -> io::Result<PathBuf> {
    let begun = Instant::now();
    loop {
        // The class appears with its driver.
        for entry in fs::read_dir(PORTS).into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim_end() == PORT {
                return Ok(Path::new("/dev").join(entry.file_name()));
            }
        }
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no port {PORT} among {PORTS}"),
            ));
        }
        thread::sleep(Duration::from_millis(1));
    }
}
