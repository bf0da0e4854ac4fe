// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Passes frames from the ADC to the USB host in DMABUFs that the CPU never touches.
//!
//! ```text
//! make relay
//! staleline exec --iio rx=65536 --gadget in=65536 -- ./relay       passes
//! staleline exec --iio rx=65536 --gadget in=65536 -- ./relay -n    no SYNC: missing-invalidate
//! ```
//!
//! The ADC's DMA engine does not snoop the CPU's caches, and the USB controller does: it sees lines there
//! from when the pages were cleared, in place of the samples. A SYNC between the two, for an access that
//! never happens, has them forgotten.
//!
//! A kernel that synchronises each DMABUF transfer itself (`--kernel begin-end-access`) passes either way.

use std::process::ExitCode;

use staleline_guest::{Access, Direction, DmaBuf, Endpoint, Error, Exporter, Fences, IioBuffer};

const FRAMES: usize = 16;
const BUFFERS: u32 = 2;
const BYTES: u64 = 4096;

fn main() -> ExitCode {
    let sync = std::env::args().nth(1).as_deref() != Some("-n");
    match relay(sync) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("relay: {e}");
            ExitCode::from(2)
        }
    }
}

fn relay(sync: bool) -> Result<(), Error> {
    let adc = IioBuffer::open(Direction::In)?;
    let usb = Endpoint::to_host()?;
    let buffers = (0..BUFFERS).map(|n| DmaBuf::allocate(Exporter::System, n, BYTES));
    let buffers: Vec<DmaBuf> = buffers.collect::<Result<_, _>>()?;
    for buffer in &buffers {
        adc.attach(buffer)?;
        usb.attach(buffer)?;
    }
    for (n, buffer) in buffers.iter().cycle().take(FRAMES).enumerate() {
        buffer.wait(Fences::All)?;
        adc.enqueue(buffer, BYTES)?;
        if n == 0 {
            adc.enable()?;
        }
        buffer.wait(Fences::Writers)?;
        if sync {
            buffer.pretend(Access::Read)?;
        }
        usb.transfer(buffer, BYTES)?;
    }
    for buffer in &buffers {
        buffer.wait(Fences::All)?;
    }
    adc.disable()
}
