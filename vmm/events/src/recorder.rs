// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Records written as the run goes, up to a limit.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::block::{Block, most_packed};
use crate::frame::{HEAD, Tag, append};

/// Of the limit, one part in so many may be used beyond it, for what is most important.
const RESERVE: u64 = 8;

/// How the machine's part of a log ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Records of the machine.
    pub records: u64,
    /// Bytes of the frames that hold them.
    pub bytes: u64,
    /// Records that there was no room for.
    pub lost: u64,
    /// The time of the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_at: Option<u64>,
    /// What else kept records from being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Ended {
    /// Whether all is there that was to be kept.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.trouble.is_none()
    }
}

/// Writes records to a log, in blocks. Trouble with that is kept and told at the end: what is being
/// recorded goes on.
pub struct Recorder<W> {
    out: W,
    block: Block,
    limit: u64,
    ended: Ended,
}

impl<W: Write> Recorder<W> {
    /// Appends to `out`, which has to be at the end of a log, at most `limit` bytes of records, and an
    /// eighth more of those that are reserved for.
    pub fn new(out: W, limit: u64) -> Self {
        Recorder {
            out,
            block: Block::default(),
            limit,
            ended: Ended::default(),
        }
    }

    /// Adds a record of time `at`. What is `important` has room when the log is full for the rest.
    /// `before` is called with the log before a frame of records is written, to put there what those
    /// refer to.
    pub fn record<T: Serialize>(
        &mut self,
        at: u64,
        record: &T,
        important: bool,
        before: impl FnOnce(&mut W) -> io::Result<()>,
    ) {
        if self.ended.trouble.is_some() {
            self.ended.lost += 1;
            return;
        }
        if !self.has_room(important) {
            self.lose(at, before);
            return;
        }
        if self.block.push(at, record).is_ok() {
            return;
        }
        self.flush(before);
        // One that is longer than a block has no place; machines make none such.
        if self.ended.trouble.is_some() || self.block.push(at, record).is_err() {
            self.ended.lost += 1;
        }
    }

    fn has_room(&self, important: bool) -> bool {
        let limit = match important {
            true => self.limit.saturating_add(self.limit / RESERVE),
            false => self.limit,
        };
        let block = (HEAD + most_packed()) as u64;
        self.ended.bytes.saturating_add(block) <= limit
            && (important || self.ended.full_at.is_none())
    }

    #[cold]
    fn lose(&mut self, at: u64, before: impl FnOnce(&mut W) -> io::Result<()>) {
        self.ended.lost += 1;
        if self.ended.full_at.is_some() {
            return;
        }
        self.flush(before);
        self.ended.full_at = Some(at);
        let full = serde_json::json!({ "at": at });
        self.document(Tag::FULL, &full);
    }

    /// Writes what there is.
    #[cold]
    pub fn flush(&mut self, before: impl FnOnce(&mut W) -> io::Result<()>) {
        if self.block.is_empty() || self.ended.trouble.is_some() {
            return;
        }
        let (records, payload) = self.block.payload();
        let written = before(&mut self.out)
            .and_then(|()| append(&mut self.out, Tag::RECORDS, records, payload));
        match written {
            Ok(()) => {
                self.ended.records += u64::from(records);
                self.ended.bytes += (HEAD + payload.len()) as u64;
            }
            Err(e) => {
                self.ended.lost += u64::from(records);
                self.ended.trouble = Some(e.to_string());
            }
        }
        self.block.clear();
    }

    /// Appends a JSON document as a frame that holds no record of the machine.
    pub fn document(&mut self, tag: Tag, document: &impl Serialize) {
        if self.ended.trouble.is_some() {
            return;
        }
        let json = serde_json::to_vec(document).map_err(io::Error::from);
        if let Err(e) = json.and_then(|json| append(&mut self.out, tag, 0, &json)) {
            self.ended.trouble = Some(e.to_string());
        }
    }

    /// Writes what there is, and how it ended; nothing is recorded after that.
    pub fn end(&mut self, before: impl FnOnce(&mut W) -> io::Result<()>) -> &Ended {
        self.flush(before);
        let ended = self.ended.clone();
        self.document(Tag::END, &ended);
        self.ended
            .trouble
            .get_or_insert_with(|| "it has ended".into());
        &self.ended
    }
}
