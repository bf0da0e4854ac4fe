// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! After a writer that may have been stopped.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::frame::{HEAD, Head, MAX_FRAME, START, Tag};
use crate::reader::read_up_to;
use crate::{Ended, LogError, Reader};

/// What a machine has left in a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Records of the machine, in whole frames.
    pub records: u64,
    /// Bytes of the frames that hold them.
    pub bytes: u64,
    /// How it ended; none if it was stopped.
    pub ended: Option<Ended>,
}

/// Takes the part of a frame away that a writer who was stopped may have left at the end of a log, and
/// says what there is. `log` is open for reading and writing, and is left at its end. Goes by the
/// frames' heads alone, so that it takes no time to speak of.
///
/// # Errors
/// Those of the file, and [`LogError::NotALog`] or [`LogError::Version`].
pub fn settle(log: &mut File) -> Result<Found, LogError> {
    log.rewind()?;
    Reader::new(&mut *log)?;
    let len = log.metadata()?.len();
    let mut whole = START as u64;
    let mut found = Found::default();
    while let Some(head) = head_at(log, whole)? {
        let end = whole + (HEAD as u64) + u64::from(head.len);
        if head.len as usize > MAX_FRAME || end > len {
            break;
        }
        match head.tag {
            Tag::RECORDS => {
                found.records += u64::from(head.records);
                found.bytes += end - whole;
            }
            Tag::END => {
                let mut json = vec![0; head.len as usize];
                log.read_exact(&mut json)?;
                found.ended = serde_json::from_slice(&json).ok();
            }
            _ => {}
        }
        whole = end;
    }
    if whole < len {
        log.set_len(whole)?;
    }
    log.seek(SeekFrom::End(0))?;
    Ok(found)
}

/// The head of a frame, if there is a whole one. The file stands behind it then.
fn head_at(log: &mut File, offset: u64) -> io::Result<Option<Head>> {
    log.seek(SeekFrom::Start(offset))?;
    let mut bytes = [0; HEAD];
    let read = read_up_to(log, &mut bytes)?;
    Ok((read == HEAD).then(|| Head::parse(bytes)))
}
