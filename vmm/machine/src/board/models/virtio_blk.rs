// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A virtio block device, on a port like any other master's.
//!
//! Binding: Documentation/devicetree/bindings/virtio/mmio.yaml.

use std::fs::File;
use std::io::Read as _;

use staleline_devices::bus::Device;
use staleline_devices::virtio_blk::{self, MemoryDisk};
use staleline_support::digest;

use super::{Model, OneOf, Site};
use crate::board::config::DiskImage;
use crate::board::fdt::NodeWriter;
use crate::board::settings::{BlkSettings, BoardSettings, PortSettings, Translated};

/// Larger images are refused: they are kept in memory.
const MAX_BYTES: u64 = 256 << 20;

/// The disk.
pub struct VirtioBlk;

impl Model for VirtioBlk {
    fn name(&self) -> &'static str {
        "virtio-blk"
    }

    fn present(&self, settings: &BoardSettings) -> bool {
        settings.blk.is_some()
    }

    fn port(&self, settings: &BoardSettings) -> Option<PortSettings> {
        settings.blk.as_ref().map(BlkSettings::attachment)
    }

    fn interrupts(&self) -> bool {
        true
    }

    fn translated_as(&self) -> Option<Translated> {
        Some(Translated::Blk)
    }

    fn options(&self) -> &'static [OneOf] {
        &[&["CONFIG_VIRTIO_MMIO"], &["CONFIG_VIRTIO_BLK"]]
    }

    fn describe(&self, node: &mut NodeWriter<'_>) -> Result<(), vm_fdt::Error> {
        node.string("compatible", "virtio,mmio")
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Device>, String> {
        let disk = match &site.config.disk {
            Some(image) => read(image)?,
            None => Vec::new(),
        };
        let settings = site.config.board.blk.as_ref();
        Ok(Box::new(virtio_blk::VirtioBlk::new(virtio_blk::Config {
            disk: Box::new(MemoryDisk::new(disk)),
            order_platform: settings.is_none_or(|s| s.order_platform),
        })))
    }
}

/// The image, if it is what it should be. The device has a copy: what the guest writes is gone after
/// the run.
fn read(image: &DiskImage) -> Result<Vec<u8>, String> {
    let path = image.path.display();
    let mut bytes = Vec::new();
    File::open(&image.path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("cannot read the disk's image {path}: {e}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!(
            "the disk's image {path} has more than {MAX_BYTES} bytes"
        ));
    }
    let found = digest::bytes(&bytes);
    if found != image.hash {
        return Err(format!(
            "the disk's image {path} has changed (SHA-256 {found}, it should be {}): remove it, and run \
             the same again: it is made anew",
            image.hash
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_has_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, b"disk").unwrap();
        let hash = digest::bytes(b"disk");
        let mut image = DiskImage { path, hash };
        assert_eq!(read(&image).unwrap(), b"disk");
        std::fs::write(&image.path, b"desk").unwrap();
        let e = read(&image).unwrap_err();
        assert!(e.contains("made anew"), "{e}");
        image.path.set_file_name("none");
        assert!(read(&image).unwrap_err().contains("cannot read"));
    }
}
