// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Transfers under way, and how they ended: what was not carried out is not to be judged.

use std::collections::VecDeque;

use staleline_guest::{DmaBuf, Error, Fence};

/// Transfers that one device has been given, oldest first: that is the order in which it does them.
///
/// The kernel tells how a transfer ended to whoever holds its fence by then. One that is over when
/// its ioctl returns cannot be asked; so a driver that refuses a transfer at once is not heard here
/// (`iio_dma_buffer_submit_block` in drivers/iio/buffer/industrialio-buffer-dma.c signals the fence,
/// and the ioctl succeeds), and the VMM has to notice that the device moved nothing.
pub struct UnderWay<'a> {
    device: &'a str,
    fences: VecDeque<(u32, Fence)>,
}

impl<'a> UnderWay<'a> {
    /// None yet; messages call the device so.
    pub fn new(device: &'a str) -> Self {
        UnderWay {
            device,
            fences: VecDeque::new(),
        }
    }

    /// `frame` has just been queued in `buffer`.
    pub fn queued(&mut self, frame: u32, buffer: &DmaBuf) -> Result<(), Error> {
        if let Some(fence) = Fence::under_way(buffer)? {
            self.fences.push_back((frame, fence));
        }
        Ok(())
    }

    /// Looks at those that are over, without waiting.
    ///
    /// # Errors
    /// [`Error::Ended`] if one of them ended with an error.
    pub fn look(&mut self) -> Result<(), Error> {
        while let Some((frame, fence)) = self.fences.front() {
            match fence.status()? {
                None => break,
                Some(Ok(())) => {}
                Some(Err(source)) => {
                    return Err(Error::Ended {
                        what: format!("frame {frame} by {}, {},", self.device, fence.buffer()),
                        code: source.raw_os_error().unwrap_or(0),
                        source,
                    });
                }
            }
            self.fences.pop_front();
        }
        Ok(())
    }
}
