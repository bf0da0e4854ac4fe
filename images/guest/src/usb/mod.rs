// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A USB gadget with one FunctionFS function (Documentation/usb/gadget_configfs.rst,
//! Documentation/usb/functionfs.rst): one bulk IN and one bulk OUT endpoint.

use std::cell::Cell;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::dmabuf::DmaBuf;
use crate::error::{Context, Error};
use crate::mounts::{self, Mount};
use crate::sys::{self, Importer};
use crate::wait::wait_for;

mod descriptors;

const GADGET: &str = "/sys/kernel/config/usb_gadget/staleline";
const FUNCTION: &str = "staleline";
const FFS: &str = "/dev/ffs";
const UDCS: &str = "/sys/class/udc";
const PROBE_SECONDS: u64 = 5;
const HOST_SECONDS: u64 = 30;

/// A configured gadget. It stays bound until power-off.
#[derive(Debug)]
pub struct Gadget {
    ep0: Ep0,
    /// To the host.
    pub bulk_in: Endpoint,
    /// From the host.
    pub bulk_out: Endpoint,
}

/// A data endpoint.
#[derive(Debug)]
pub struct Endpoint {
    file: Arc<File>,
    name: &'static str,
}

impl Gadget {
    /// Builds the gadget, binds it to the only USB device controller, and waits until the host has
    /// configured it.
    ///
    /// # Errors
    /// If the kernel refuses a step, or the host does not come.
    pub fn bring_up() -> Result<Self, Error> {
        let ep0 = Ep0::bring_up()?;
        let gadget = Gadget {
            bulk_in: Endpoint::to_host()?,
            bulk_out: Endpoint::from_host()?,
            ep0,
        };
        gadget.wait_until_enabled()?;
        Ok(gadget)
    }

    /// Waits until the host has configured the gadget, if it is not configured as far as is known.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_until_enabled(&self) -> Result<(), Error> {
        self.ep0.wait_until_enabled()
    }
}

impl Endpoint {
    /// The one to the host, of a gadget that is there.
    ///
    /// # Errors
    /// If it is not.
    pub fn to_host() -> Result<Self, Error> {
        Self::open(descriptors::BULK_IN)
    }

    /// The one from the host, likewise.
    ///
    /// # Errors
    /// If there is none.
    pub fn from_host() -> Result<Self, Error> {
        Self::open(descriptors::BULK_OUT)
    }

    fn open(name: &'static str) -> Result<Self, Error> {
        let file = Arc::new(open(name)?);
        Ok(Endpoint { file, name })
    }

    /// Attaches a DMABUF.
    pub fn attach(&self, dmabuf: &DmaBuf) -> Result<(), Error> {
        let done = sys::attach(Importer::FunctionFs, &*self.file, dmabuf.as_fd());
        dmabuf.attached(done, "FUNCTIONFS_DMABUF_ATTACH", &self.path())
    }

    /// Detaches a DMABUF.
    pub fn detach(&self, dmabuf: &DmaBuf) -> Result<(), Error> {
        sys::detach(Importer::FunctionFs, &*self.file, dmabuf.as_fd())
            .call("FUNCTIONFS_DMABUF_DETACH", self.with(dmabuf))
    }

    /// Queues the first `bytes` of an attached DMABUF.
    pub fn transfer(&self, dmabuf: &DmaBuf, bytes: u64) -> Result<(), Error> {
        sys::enqueue(Importer::FunctionFs, &*self.file, dmabuf.as_fd(), bytes)
            .call("FUNCTIONFS_DMABUF_TRANSFER", self.with(dmabuf))
    }

    /// Receives into an ordinary buffer until it is full.
    pub fn receive(&self, mut buf: Vec<u8>) -> Result<Vec<u8>, Error> {
        let file = Arc::clone(&self.file);
        let what = || format!("the USB host to send to {}", self.name);
        let (buf, result) = within(what, move || {
            let result = (&*file).read_exact(&mut buf);
            (buf, result)
        })?;
        result.file("receive from", self.path()).map(|()| buf)
    }

    /// Sends an ordinary buffer.
    pub fn send(&self, buf: Vec<u8>) -> Result<Vec<u8>, Error> {
        let file = Arc::clone(&self.file);
        let what = || format!("the USB host to read from {}", self.name);
        let (buf, result) = within(what, move || {
            let result = (&*file).write_all(&buf);
            (buf, result)
        })?;
        result.file("send to", self.path()).map(|()| buf)
    }

    /// How messages and reports call it.
    pub fn path(&self) -> String {
        format!("{FFS}/{}", self.name)
    }

    fn with(&self, dmabuf: &DmaBuf) -> String {
        format!("{} with {}", self.path(), dmabuf.name())
    }
}

/// Does `work`, on a thread of its own, within [`HOST_SECONDS`]: reads and writes of FunctionFS
/// wait for ever for a host that does not want to talk, and there is no poll for data endpoints.
fn within<T: Send + 'static>(
    what: impl FnOnce() -> String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens to what comes too late; power-off ends the thread.
    thread::Builder::new()
        .spawn(move || sender.send(work()))
        .call("clone", "a thread for FunctionFS")?;
    receiver
        .recv_timeout(Duration::from_secs(HOST_SECONDS))
        .map_err(|_| Error::Timeout {
            what: what(),
            seconds: HOST_SECONDS,
        })
}

fn open(name: &str) -> Result<File, Error> {
    let path = Path::new(FFS).join(name);
    File::options()
        .read(true)
        .write(true)
        .open(&path)
        .file("open", path)
}

fn first_udc() -> Result<Option<String>, Error> {
    let entries = match fs::read_dir(UDCS) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.file("list", UDCS)?,
    };
    Ok(entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .min())
}

/// Fills in a gadget below `root`, a directory in configfs.
fn describe(root: &Path) -> Result<(), Error> {
    let function = root.join(format!("functions/ffs.{FUNCTION}"));
    let configuration = root.join("configs/c.1");
    let strings = root.join("strings/0x409");
    for dir in [&root.to_owned(), &strings, &function, &configuration] {
        fs::create_dir(dir).file("create", dir)?;
    }
    for (file, value) in [
        // Linux Foundation, multifunction composite gadget.
        (root.join("idVendor"), "0x1d6b"),
        (root.join("idProduct"), "0x0104"),
        (root.join("bcdUSB"), "0x0300"),
        (strings.join("manufacturer"), "Staleline"),
        (strings.join("product"), "DMABUF testbed"),
        (strings.join("serialnumber"), "1"),
    ] {
        fs::write(&file, value).file("write", file)?;
    }
    let link = configuration.join(format!("ffs.{FUNCTION}"));
    symlink(&function, &link).file("link", link)
}

/// Endpoint 0: the gadget itself, and its events. Closing it takes the function down.
#[derive(Debug)]
pub struct Ep0 {
    file: File,
    /// The configuration is selected, as far as events have been read.
    enabled: Cell<bool>,
}

impl Ep0 {
    /// Builds the gadget and binds it to the only USB device controller.
    ///
    /// # Errors
    /// If the kernel refuses a step.
    pub fn bring_up() -> Result<Self, Error> {
        Mount::Config.mount()?;
        let udc = wait_for(PROBE_SECONDS, first_udc)?.ok_or_else(|| Error::Missing {
            what: format!("USB device controller in {UDCS}"),
            hint: "is one in the device tree, with its driver built in, and did it probe? The \
                   kernel log tells",
        })?;
        describe(Path::new(GADGET))?;
        mounts::mount(FUNCTION, "functionfs", Path::new(FFS))?;
        let mut ep0 = open("ep0")?;
        for blob in [descriptors::descriptors(), descriptors::strings()] {
            ep0.write_all(&blob)
                .file("write descriptors to", "/dev/ffs/ep0")?;
        }
        let attribute = Path::new(GADGET).join("UDC");
        fs::write(&attribute, &udc).file("bind the controller through", &attribute)?;
        Ok(Ep0 {
            file: ep0,
            enabled: Cell::new(false),
        })
    }

    /// Waits until the host has configured the gadget, if it is not configured as far as is known.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_until_enabled(&self) -> Result<(), Error> {
        loop {
            let enabled = self.enabled.get();
            let patience = if enabled { 0 } else { HOST_SECONDS };
            match (self.look(patience)?, enabled) {
                (true, _) => {}
                (false, true) => return Ok(()),
                (false, false) => {
                    return Err(Error::Timeout {
                        what: "the USB host to configure the gadget".into(),
                        seconds: HOST_SECONDS,
                    });
                }
            }
        }
    }

    /// Reads and answers events for as long as there may be any.
    ///
    /// # Errors
    /// If they cannot be read any more.
    pub fn serve(&self) -> Result<Infallible, Error> {
        loop {
            self.look(HOST_SECONDS)?;
        }
    }

    /// Reads and answers events, after a wait for them of at most `seconds`. False if there were none.
    fn look(&self, seconds: u64) -> Result<bool, Error> {
        const PATH: &str = "/dev/ffs/ep0";
        let timeout = Timespec {
            tv_sec: seconds.cast_signed(),
            tv_nsec: 0,
        };
        let mut fd = [PollFd::new(&self.file, PollFlags::IN)];
        if rustix::event::poll(&mut fd, Some(&timeout)).call("poll", PATH)? == 0 {
            return Ok(false);
        }
        let mut events = [0; 4 * descriptors::EVENT_BYTES];
        let n = (&self.file)
            .read(&mut events)
            .file("read events from", PATH)?;
        for event in events[..n].chunks_exact(descriptors::EVENT_BYTES) {
            match descriptors::Event::parse(event) {
                descriptors::Event::Enable => self.enabled.set(true),
                descriptors::Event::Disable => self.enabled.set(false),
                descriptors::Event::Setup { to_host } => stall(&self.file, to_host),
                descriptors::Event::Other => {}
            }
        }
        Ok(true)
    }
}

/// Refuses a control request: I/O in the wrong direction stalls the endpoint.
fn stall(mut ep0: &File, to_host: bool) {
    // The stall itself is reported as an error (EL2HLT).
    let _ = if to_host {
        ep0.read(&mut [])
    } else {
        ep0.write(&[])
    };
}
