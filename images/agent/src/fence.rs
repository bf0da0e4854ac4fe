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
        let file = sys::export_sync_file(buffer.as_fd())
            .call("DMA_BUF_IOCTL_EXPORT_SYNC_FILE", buffer.name())?;
        let fence = Fence {
            file,
            buffer: buffer.name(),
        };
        if fence
            .info()?
            .iter()
            .any(|f| f.driver_name.starts_with(STUB))
        {
            return Err(Error::Untold { what: fence.buffer });
        }
        Ok(fence)
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
