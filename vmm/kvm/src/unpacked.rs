// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The memory of the snapshot that was used last: many guests go on from it, each with a copy of its own of
//! what it changes.

use std::fs::File;
use std::io;

use rustix::fs::{MemfdFlags, memfd_create};
use staleline_machine::engine::wire::Blob;

use crate::blobs::Blobs;
use crate::error::KvmError;
use crate::snapshot::{self, PAGE, State};

/// One snapshot.
#[derive(Debug, Default)]
pub struct Unpacked(Option<One>);

#[derive(Debug)]
struct One {
    blob: Blob,
    ram_bytes: u64,
    state: State,
    ram: File,
}

impl Unpacked {
    /// All but the memory of a guest with so much of it, and that, as a file which nobody may change.
    ///
    /// # Errors
    /// [`KvmError::Snapshot`] if it is damaged or was not sent.
    pub fn get(
        &mut self,
        blob: &Blob,
        blobs: &Blobs,
        ram_bytes: u64,
    ) -> Result<(State, File), KvmError> {
        let unpack = KvmError::os("unpack the snapshot");
        if !matches!(&self.0, Some(one) if one.blob == *blob && one.ram_bytes == ram_bytes) {
            // There is no room for two.
            self.0 = None;
            let path = blobs.find(blob).map_err(&unpack)?;
            let ram = memfd_create("snapshot", MemfdFlags::CLOEXEC);
            let ram = File::from(ram.map_err(|e| unpack(io::Error::from(e)))?);
            ram.set_len(ram_bytes).map_err(&unpack)?;
            let state = snapshot::read(&path, ram_bytes / PAGE as u64, &ram)?;
            self.0 = Some(One {
                blob: blob.clone(),
                ram_bytes,
                state,
                ram,
            });
        }
        match &self.0 {
            Some(one) => Ok((one.state.clone(), one.ram.try_clone().map_err(&unpack)?)),
            None => Err(KvmError::BadRequest("no snapshot")),
        }
    }
}
