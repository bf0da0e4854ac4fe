// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! An IIO buffer with DMABUFs (Documentation/iio/iio_dmabuf_api.rst,
//! Documentation/ABI/testing/sysfs-bus-iio).

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::dmabuf::DmaBuf;
use crate::error::{Context, Error};
use crate::sys::{self, Importer};
use crate::wait::wait_for;

const DEVICES: &str = "/sys/bus/iio/devices";
const PROBE_SECONDS: u64 = 5;

/// Which way the samples go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a converter to memory.
    In,
    /// From memory to a converter.
    Out,
}

impl Direction {
    // As in the sysfs attribute.
    fn name(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }
}

/// One buffer of one IIO device, all its channels enabled.
#[derive(Debug)]
pub struct IioBuffer {
    fd: OwnedFd,
    sysfs: PathBuf,
    name: String,
}

/// Where a buffer is found.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Name of the device node and of the directory in sysfs.
    device: String,
    /// Number of the buffer.
    index: u16,
}

impl IioBuffer {
    /// Opens the first buffer of the wanted direction and enables its channels. Waits a while for
    /// a driver to appear.
    pub fn open(direction: Direction) -> Result<Self, Error> {
        let devices = Path::new(DEVICES);
        let place = wait_for(PROBE_SECONDS, || find(devices, direction))?.ok_or_else(|| {
            Error::Missing {
                what: format!(
                    "IIO buffer with direction {} in {DEVICES}",
                    direction.name()
                ),
                hint: "is a converter in the device tree, with its driver built in, and did it \
                       probe? The kernel log tells",
            }
        })?;
        let device = devices.join(&place.device);
        let sysfs = device.join(format!("buffer{}", place.index));
        let name = read(&device.join("name")).unwrap_or_else(|_| place.device.clone());
        for channel in channels(&sysfs)? {
            write(&channel, "1")?;
        }
        let node = Path::new("/dev").join(&place.device);
        let file = File::options()
            .read(true)
            .write(true)
            .open(&node)
            .file("open", &node)?;
        let fd = sys::iio_buffer_fd(&file, place.index.into())
            .call("IIO_BUFFER_GET_FD_IOCTL", node.display())?;
        Ok(IioBuffer { fd, sysfs, name })
    }

    /// Attaches a DMABUF. Before the buffer is enabled: else it is in file I/O mode and refuses
    /// (iio_dma_buffer_attach_dmabuf in industrialio-buffer-dma.c).
    pub fn attach(&self, dmabuf: &DmaBuf) -> Result<(), Error> {
        let done = sys::attach(Importer::Iio, &self.fd, dmabuf.as_fd());
        dmabuf.attached(done, "IIO_BUFFER_DMABUF_ATTACH_IOCTL", &self.name)
    }

    /// Detaches a DMABUF.
    pub fn detach(&self, dmabuf: &DmaBuf) -> Result<(), Error> {
        sys::detach(Importer::Iio, &self.fd, dmabuf.as_fd())
            .call("IIO_BUFFER_DMABUF_DETACH_IOCTL", self.with(dmabuf))
    }

    /// Queues the first `bytes` of an attached DMABUF.
    pub fn enqueue(&self, dmabuf: &DmaBuf, bytes: u64) -> Result<(), Error> {
        sys::enqueue(Importer::Iio, &self.fd, dmabuf.as_fd(), bytes)
            .call("IIO_BUFFER_DMABUF_ENQUEUE_IOCTL", self.with(dmabuf))
    }

    /// Starts the converter.
    pub fn enable(&self) -> Result<(), Error> {
        write(&self.sysfs.join("enable"), "1")
    }

    /// Stops the converter; queued DMABUFs come back with an error.
    pub fn disable(&self) -> Result<(), Error> {
        write(&self.sysfs.join("enable"), "0")
    }

    /// How messages and reports call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn with(&self, dmabuf: &DmaBuf) -> String {
        format!("{} with {}", self.name, dmabuf.name())
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).file("read", path)?;
    Ok(text.trim_end().to_owned())
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).file("write", path)
}

/// Names of a directory's entries, in a fixed order; none if it does not exist (yet).
fn entries(path: &Path) -> Result<Vec<String>, Error> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut names: Vec<_> = fs::read_dir(path)
        .file("list", path)?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn find(devices: &Path, direction: Direction) -> Result<Option<Place>, Error> {
    for device in entries(devices)? {
        for entry in entries(&devices.join(&device))? {
            let Some(index) = entry.strip_prefix("buffer").and_then(|n| n.parse().ok()) else {
                continue;
            };
            let attribute = devices.join(&device).join(&entry).join("direction");
            if read(&attribute)? == direction.name() {
                return Ok(Some(Place { device, index }));
            }
        }
    }
    Ok(None)
}

/// The attributes that enable the channels of a buffer.
fn channels(buffer: &Path) -> Result<Vec<PathBuf>, Error> {
    let found: Vec<_> = entries(buffer)?
        .into_iter()
        .filter(|name| name.ends_with("_en"))
        .map(|name| buffer.join(name))
        .collect();
    if found.is_empty() {
        return Err(Error::Missing {
            what: format!("channel to enable in {}", buffer.display()),
            hint: "does the driver have scan elements?",
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs(devices: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (device, direction) in devices {
            let buffer = root.path().join(device).join("buffer0");
            fs::create_dir_all(&buffer).unwrap();
            // The legacy directory that must not be mistaken for a buffer.
            fs::create_dir_all(root.path().join(device).join("buffer")).unwrap();
            fs::write(buffer.join("direction"), format!("{direction}\n")).unwrap();
            fs::write(buffer.join("in_voltage0_en"), "0\n").unwrap();
            fs::write(buffer.join("in_voltage0_type"), "le:s16/16>>0\n").unwrap();
        }
        root
    }

    #[test]
    fn devices_are_told_apart_by_direction() {
        let root = sysfs(&[("iio:device0", "in"), ("iio:device1", "out")]);
        let found = |d| find(root.path(), d).unwrap().unwrap().device;
        assert_eq!(found(Direction::In), "iio:device0");
        assert_eq!(found(Direction::Out), "iio:device1");
    }

    #[test]
    fn a_missing_device_is_no_error_yet() {
        let root = sysfs(&[("iio:device0", "in")]);
        assert_eq!(find(root.path(), Direction::Out).unwrap(), None);
        assert_eq!(
            find(&root.path().join("absent"), Direction::In).unwrap(),
            None
        );
    }

    #[test]
    fn only_enable_attributes_are_channels() {
        let root = sysfs(&[("iio:device0", "in")]);
        let buffer = root.path().join("iio:device0/buffer0");
        assert_eq!(channels(&buffer).unwrap(), [buffer.join("in_voltage0_en")]);
        fs::remove_file(buffer.join("in_voltage0_en")).unwrap();
        assert!(channels(&buffer).is_err());
    }
}
