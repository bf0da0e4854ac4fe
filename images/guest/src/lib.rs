// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! For programs that reproduce a bug or exercise a driver, on real hardware as in a guest: what the
//! agent's own data paths are written with. The same in C is `include/staleline.h`.
//!
//! * [`DmaBuf`]: a buffer of each exporter, SYNC around accesses by the CPU, and the pattern in it;
//! * [`Fence`]: how a transfer ended;
//! * [`IioBuffer`]: a converter's buffer;
//! * [`Gadget`]: a USB gadget with an [`Endpoint`] each way;
//! * [`Pattern`]: what the converters and the USB host send and expect.
//!
//! The kernel is asked for what a name says and for nothing else: nothing here does a SYNC, waits for a
//! fence or touches a buffer unless that is its purpose.
//!
//! ```no_run
//! use staleline_guest::{Access, Direction, DmaBuf, Exporter, Fences, IioBuffer, pattern};
//!
//! # fn main() -> Result<(), staleline_guest::Error> {
//! let adc = IioBuffer::open(Direction::In)?;
//! let buffer = DmaBuf::allocate(Exporter::System, 0, 4096)?;
//! adc.attach(&buffer)?;
//! adc.enqueue(&buffer, 4096)?;
//! adc.enable()?;
//! buffer.wait(Fences::Writers)?; // the device is done
//! let access = buffer.cpu_access(Access::Read, true)?; // the CPU's caches forget what they had
//! let found = access.check(pattern()?, 0, 4096);
//! access.end()?;
//! # assert_eq!(found.corrupt, 0);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod dmabuf;
mod error;
mod fence;
mod iio;
mod mounts;
mod pagemap;
mod sys;
mod uapi;
mod usb;
mod wait;

pub use staleline_protocol::pattern::{Mismatch, Pattern};
pub use staleline_protocol::plan::Exporter;

pub use self::dmabuf::{Access, CpuAccess, DmaBuf, Fences, Memory};
pub use self::error::{Context, Error};
pub use self::fence::{End, Fence};
pub use self::iio::{Direction, IioBuffer};
pub use self::mounts::{Mount, mount};
pub use self::sys::before_others;
pub use self::usb::{Endpoint, Ep0, Gadget};
pub use self::wait::wait_for;

/// The pattern of this run, by the variable `STALELINE_SEED`, which `staleline exec` sets; without it that
/// of seed 1, which is what a run has unless it is told otherwise.
///
/// # Errors
/// If it is no number from 0 to 2^64 - 1.
pub fn pattern() -> Result<Pattern, Error> {
    let Ok(text) = std::env::var("STALELINE_SEED") else {
        return Ok(Pattern::new(1));
    };
    match text.parse() {
        Ok(seed) => Ok(Pattern::new(seed)),
        Err(_) => Err(Error::Seed { text }),
    }
}
