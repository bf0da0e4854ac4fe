// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How a transfer ended: its fence, as a sync file (Documentation/driver-api/sync_file.rst).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::dmabuf::{DmaBuf, TRANSFER_SECONDS};
use crate::error::{Context, Error, is_cancelled};
use crate::sys;
use crate::uapi::SyncFenceInfo;

/// Driver name of the fence that stands for those that have signalled already
/// (`dma_fence_get_stub` in drivers/dma-buf/dma-fence.c).
const STUB: &[u8] = b"stub\0";

/// The fence of a transfer.
#[derive(Debug)]
pub struct Fence {
    file: OwnedFd,
    buffer: String,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Done,
    /// It was cancelled; some of its bytes may have been moved.
    Cancelled,
}

impl Fence {
    /// The fence of the transfer that has just been queued, for which the kernel has waited for all
    /// earlier ones. Of one that has ended already, the kernel does not tell how.
    pub fn of(buffer: &DmaBuf) -> Result<Self, Error> {
        Fence::under_way(buffer)?.ok_or_else(|| Error::Untold {
            what: buffer.name(),
        })
    }

    /// As [`Fence::of`]; `None` of a transfer that has ended already.
    pub fn under_way(buffer: &DmaBuf) -> Result<Option<Self>, Error> {
        let file = sys::export_sync_file(buffer.as_fd())
            .call("DMA_BUF_IOCTL_EXPORT_SYNC_FILE", buffer.name())?;
        let fence = Fence {
            file,
            buffer: buffer.name(),
        };
        let fences = fence.info()?;
        let stub = fences.iter().any(|f| f.driver_name.starts_with(STUB));
        Ok((!stub).then_some(fence))
    }

    /// How messages call the buffer.
    pub fn buffer(&self) -> &str {
        &self.buffer
    }

    /// How the transfer ended; `None` if it has not. Does not wait.
    pub fn status(&self) -> Result<Option<io::Result<()>>, Error> {
        Ok(outcome(&self.info()?))
    }

    /// Waits until it has signalled.
    pub fn wait(&self) -> Result<End, Error> {
        let timeout = Timespec {
            tv_sec: TRANSFER_SECONDS.cast_signed(),
            tv_nsec: 0,
        };
        let mut fd = [PollFd::new(&self.file, PollFlags::IN)];
        if rustix::event::poll(&mut fd, Some(&timeout)).call("poll", &self.buffer)? == 0 {
            return Err(Error::Timeout {
                what: format!("the transfer on {}", self.buffer),
                seconds: TRANSFER_SECONDS,
            });
        }
        let mut end = End::Done;
        for fence in self.info()?.into_iter().filter(|f| f.status < 0) {
            let error = io::Error::from_raw_os_error(-fence.status);
            if !is_cancelled(&error) {
                return Err(error).call("transfer", &self.buffer);
            }
            end = End::Cancelled;
        }
        Ok(end)
    }

    fn info(&self) -> Result<Vec<SyncFenceInfo>, Error> {
        sys::sync_file_fences(&self.file).call("SYNC_IOC_FILE_INFO", &self.buffer)
    }
}

/// What the states of all fences of a transfer come to.
fn outcome(fences: &[SyncFenceInfo]) -> Option<io::Result<()>> {
    if let Some(failed) = fences.iter().find(|f| f.status < 0) {
        return Some(Err(io::Error::from_raw_os_error(-failed.status)));
    }
    fences.iter().all(|f| f.status > 0).then_some(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_has_ended_when_all_fences_have_or_one_has_failed() {
        let told = |states: &[i32]| {
            let fence = |status: &i32| SyncFenceInfo {
                status: *status,
                ..SyncFenceInfo::default()
            };
            let fences: Vec<_> = states.iter().map(fence).collect();
            outcome(&fences).map(|r| r.map_err(|e| e.raw_os_error()))
        };
        assert_eq!(told(&[0]), None);
        assert_eq!(told(&[1, 0]), None);
        assert_eq!(told(&[1, 1]), Some(Ok(())));
        assert_eq!(told(&[0, -12]), Some(Err(Some(12))));
    }
}
