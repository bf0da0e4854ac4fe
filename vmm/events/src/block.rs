// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Records of one frame, close together.

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::LogError;

/// Most bytes of a block of records before it is compressed: 32 KiB.
pub const BLOCK: usize = 32 << 10;

/// There is no room in the block for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Records on their way to a frame. Its memory is allocated once.
pub struct Block {
    bytes: Box<[u8]>,
    /// Room for them when they are compressed, and what the compression needs.
    packed: Box<[u8]>,
    table: CompressTable,
    len: usize,
    records: u32,
    /// The time of the last record; the first one's is relative to 0.
    at: u64,
}

impl Default for Block {
    fn default() -> Self {
        Block {
            bytes: vec![0; BLOCK].into_boxed_slice(),
            packed: vec![0; most_packed()].into_boxed_slice(),
            table: CompressTable::small(),
            len: 0,
            records: 0,
            at: 0,
        }
    }
}

impl Block {
    /// Adds a record of time `at`, which is not before the last one's; if it is, it counts as that.
    ///
    /// # Errors
    /// [`Full`] if it does not fit; the block is as before.
    pub fn push<T: Serialize>(&mut self, at: u64, record: &T) -> Result<(), Full> {
        let since = at.saturating_sub(self.at);
        let room = self.bytes.get_mut(self.len..).ok_or(Full)?;
        let written = postcard::to_slice(&(since, record), room).map_err(|_| Full)?;
        self.len += written.len();
        self.records += 1;
        self.at += since;
        Ok(())
    }

    /// How many records there are, and the payload of a frame that holds them.
    pub fn payload(&mut self) -> (u32, &[u8]) {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        let len = compress_into_with_table(bytes, &mut self.packed, &mut self.table);
        let packed = len.ok().and_then(|len| self.packed.get(..len));
        // There is room for whatever it makes of a block.
        (self.records, packed.unwrap_or_default())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        (self.len, self.records, self.at) = (0, 0, 0);
    }
}

/// Most bytes of the payload of a frame with records.
pub(crate) fn most_packed() -> usize {
    get_maximum_output_size(BLOCK)
}

/// The records of a block of `count`, each with its time. Ends after the first error.
pub fn records<T: DeserializeOwned>(
    count: u32,
    payload: &[u8],
) -> impl Iterator<Item = Result<(u64, T), LogError>> + use<T> {
    let mut block = vec![0; BLOCK];
    let mut trouble = None;
    match decompress_into(payload, &mut block) {
        Ok(len) => block.truncate(len),
        Err(e) => trouble = Some(e.to_string()),
    }
    let mut from = 0;
    let mut remaining = count;
    let mut now = 0_u64;
    std::iter::from_fn(move || {
        let bad = |why: String| Some(Err(LogError::Record(why)));
        if let Some(why) = trouble.take() {
            (remaining, from) = (0, block.len());
            return bad(why);
        }
        let left = block.get(from..).unwrap_or_default();
        if remaining == 0 {
            from = block.len();
            return match left.len() {
                0 => None,
                n => bad(format!("{n} bytes follow the last record of a block")),
            };
        }
        remaining -= 1;
        match postcard::take_from_bytes::<(u64, T)>(left) {
            Ok(((since, record), rest)) => {
                from = block.len() - rest.len();
                now = now.saturating_add(since);
                Some(Ok((now, record)))
            }
            Err(e) => {
                (remaining, from) = (0, block.len());
                bad(e.to_string())
            }
        }
    })
}
