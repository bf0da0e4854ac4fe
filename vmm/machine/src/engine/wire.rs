// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the KVM engine's two halves say to each other: the command that the user has started, and the VMM,
//! which runs beside it, or in an emulated machine with nothing but a serial port in between.
//!
//! A message is a head of 16 bytes, a JSON document, and a payload of bytes, either of which may be empty but
//! for the document. The head has, in little-endian order, [`MAGIC`], the document's length (32 bits), and the
//! payload's (64 bits). Both sides take the other for untrusted: lengths are bounded, and whatever is malformed
//! ends the conversation.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use staleline_devices::coherency::Poison;

use super::GuestKind;
use crate::boot::Loaded;
use crate::events::Filter;

/// Version of everything in this module; both halves must agree.
pub const ABI_VERSION: u32 = 5;

/// What each message begins with: `SLK1`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"SLK1");

/// Most bytes of a message's document.
pub const DOCUMENT_LIMIT: u32 = 1 << 20;

/// Most bytes of a message's payload: of a kernel with an initial file system of the user's own.
pub const PAYLOAD_LIMIT: u64 = 2 << 30;

/// Name of the serial port in an emulated machine over which they talk.
pub const PORT: &str = "org.staleline.vmm";

/// What a line of the VMM's console begins with that tells of a system call which its sandbox has refused.
pub const TRESPASS: &str = "staleline-kvm: the sandbox has stopped it: it made the system call ";

/// What a line of its console begins with that tells of a signal which has ended it.
pub const CRASH: &str = "staleline-kvm: it has crashed: ";

/// Where the machine's configuration names the disk's image.
pub const DISK: &str = "/disk/path";

/// A file that the VMM has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Blob(
    /// SHA-256 of its content, in hexadecimal.
    pub String,
);

/// What to record of what happens on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The events that are kept.
    pub filter: Filter,
    /// Bytes of them, at most.
    pub limit: u64,
}

/// Devices of the host's that are handed to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDevices {
    /// Their addresses, as in 0000:00:03.0.
    pub addresses: Vec<String>,
    /// Whether they work on the memory that CPUs see; else it is DRAM.
    pub snoop: bool,
    /// RAM, which they reach at its physical addresses: first address and length of each piece.
    pub ram: Vec<(u64, u64)>,
}

/// The VMM's second argument if guests are to have devices of the host's.
pub const DEVICES: &str = "--devices";

/// A run of a guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// arm64 `Image`.
    pub kernel: Blob,
    /// Initial root file system.
    pub initrd: Option<Blob>,
    /// SHA-256 that the part of the kernel has which is loaded, if that is known.
    pub kernel_hash: Option<String>,
    /// What the board's disk holds, in place of the file that the machine's configuration names.
    pub disk: Option<Blob>,
    /// Device tree.
    pub fdt: Blob,
    /// Guest RAM in bytes.
    pub ram_bytes: u64,
    /// What it holds at power-on where nothing is loaded.
    pub poison: Poison,
    /// Device windows right above it, in bytes.
    pub window_bytes: u64,
    /// CPUs, 1 to 4.
    pub cpus: u8,
    /// Shared interrupts that the device tree names, 1 to 64: the last one, and 1.
    pub lines: u8,
    /// Which machine.
    pub guest: GuestKind,
    /// The machine's own configuration.
    pub machine: serde_json::Value,
    /// Milliseconds after which the guest counts as hung.
    pub timeout_ms: Option<u64>,
    /// What is behind the board's PCI host bridge, if it has one.
    #[serde(default)]
    pub devices: Option<HostDevices>,
    /// What to record of what happens on the machine.
    pub events: Option<Record>,
    /// When the guest has written this line on its console, it is saved, and then goes on.
    pub save: Option<String>,
    /// Go on from this snapshot, which is of the same guest, instead of booting.
    pub from: Option<Blob>,
}

/// Messages to the VMM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToVmm {
    /// A file, as the payload. Kept until it is to be forgotten.
    File {
        /// What it should be.
        hash: Blob,
    },
    /// Drop a file. Nothing is answered, whether it was there or not.
    Forget {
        /// Which.
        hash: Blob,
    },
    /// Run a guest to its end.
    Run(Box<Run>),
    /// Have the VFIO group of a device, as another program would. For tests. Nothing is answered if it can.
    Hold {
        /// Its address on the PCI bus.
        device: String,
    },
    /// Do what the sandbox does not allow. For tests: whoever asks for it is told what became of it.
    Trespass,
    /// Access memory that is not there. For tests.
    Crash,
}

/// What the VMM writes while a guest runs, and when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// What the guest has written to its UART since the last message.
    Console,
    /// The machine's report, as JSON.
    Report,
    /// The machine's part of the log.
    Events,
    /// Some of the snapshot; the next comes behind it.
    Snapshot,
}

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Ended {
    /// It powered off.
    PoweredOff,
    /// The time limit was reached.
    TimedOut,
    /// It asked for a reset, or stopped in another way.
    Died {
        /// In words.
        what: String,
    },
}

/// Counters of the engine, apart from the machine's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvmStats {
    /// Accesses to registers that came out of the guest.
    pub exits: u64,
    /// Those to addresses at which nothing is.
    pub nowhere: u64,
    /// How often device time went on by itself.
    pub idles: u64,
    /// Interrupt line changes told to KVM.
    pub irq_changes: u64,
    /// Of the exits, those to read registers of the chip.
    #[serde(default)]
    pub register_reads: u64,
    /// Of the exits, those to read the UART's registers.
    pub uart_reads: u64,
    /// And to write them.
    pub uart_writes: u64,
    /// Of the exits, reports of cache maintenance.
    pub reports: u64,
    /// Whether the guest's kernel has found the register for them.
    pub is_told: bool,
    /// Accesses to the UART that cost no exit: they were in the ring of those that KVM keeps.
    pub kept: u64,
    /// Microseconds from the request to the first instruction of the guest.
    pub setup_us: u64,
    /// Of these, those for its memory.
    pub memory_us: u64,
    /// And for the chip.
    pub chip_us: u64,
    /// Microseconds that its CPUs have run, all together.
    pub cpu_us: u64,
    /// Microseconds for which it stood still to be saved.
    pub saving_us: u64,
}

/// Messages from the VMM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum FromVmm {
    /// It can run guests.
    Ready {
        /// [`ABI_VERSION`].
        abi: u32,
        /// Where: of the kernel and the CPU under it, in words.
        host: String,
        /// What its sandbox lacks for want of a newer kernel, in words; empty if it is whole.
        #[serde(default)]
        lacks: String,
    },
    /// Some output, as the payload.
    Output {
        /// Which.
        output: Output,
    },
    /// The guest has ended, and all output has been sent.
    Ended {
        /// How.
        end: Ended,
        /// What it was.
        loaded: Loaded,
        /// Microseconds from its first instruction to its end.
        wall_us: u64,
        /// Counters.
        stats: KvmStats,
    },
    /// It could not be run.
    Failed {
        /// Why, with what that is due to.
        message: String,
        /// What the user can do about it.
        help: String,
    },
}

/// Writes a message.
///
/// # Errors
/// Those of the other end; `InvalidInput` beyond the limits.
pub fn send(to: &mut impl Write, message: &impl Serialize, payload: &[u8]) -> io::Result<()> {
    let document = serde_json::to_vec(message)?;
    let len = u32::try_from(document.len()).unwrap_or(u32::MAX);
    if len > DOCUMENT_LIMIT || payload.len() as u64 > PAYLOAD_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a message longer than its bound",
        ));
    }
    let mut head = Vec::with_capacity(16 + document.len());
    head.extend(MAGIC.to_le_bytes());
    head.extend(len.to_le_bytes());
    head.extend((payload.len() as u64).to_le_bytes());
    head.extend(document);
    to.write_all(&head)?;
    to.write_all(payload)?;
    to.flush()
}

/// Reads a message, but for its payload, whose length is returned: the caller reads it next. `None` if the
/// other end is gone.
///
/// # Errors
/// Those of the other end; `InvalidData` if it says anything else.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<(T, u64)>> {
    let mut head = [0; 16];
    let mut filled = 0;
    while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let [m0, m1, m2, m3, d0, d1, d2, d3, payload @ ..] = head;
    if u32::from_le_bytes([m0, m1, m2, m3]) != MAGIC {
        return Err(invalid("no message of the VMM's"));
    }
    let len = u32::from_le_bytes([d0, d1, d2, d3]);
    let payload = u64::from_le_bytes(payload);
    if len > DOCUMENT_LIMIT || payload > PAYLOAD_LIMIT {
        return Err(invalid("a message longer than its bound"));
    }
    let mut document = vec![0; len as usize];
    from.read_exact(&mut document)?;
    let message = serde_json::from_slice(&document)?;
    Ok(Some((message, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_with_their_payloads() {
        let mut wire = Vec::new();
        let hash = Blob("ab".into());
        send(&mut wire, &ToVmm::File { hash: hash.clone() }, b"content").unwrap();
        send(
            &mut wire,
            &FromVmm::Ready {
                abi: 7,
                host: "here".into(),
                lacks: String::new(),
            },
            b"",
        )
        .unwrap();
        let mut rest = &*wire;
        let (message, payload) = receive::<ToVmm>(&mut rest).unwrap().unwrap();
        assert!(matches!(message, ToVmm::File { hash: found } if found == hash));
        assert_eq!((payload, rest.split_at(7).0), (7, &b"content"[..]));
        rest = &rest[7..];
        let (message, payload) = receive::<FromVmm>(&mut rest).unwrap().unwrap();
        assert!(matches!(message, FromVmm::Ready { abi: 7, .. }));
        assert_eq!(payload, 0);
        assert!(receive::<FromVmm>(&mut rest).unwrap().is_none());
    }

    #[test]
    fn whatever_else_is_said_is_an_error() {
        let mut good = Vec::new();
        send(
            &mut good,
            &FromVmm::Output {
                output: Output::Report,
            },
            b"",
        )
        .unwrap();
        let kind = |bytes: &[u8]| receive::<FromVmm>(&mut &*bytes).unwrap_err().kind();
        for cut in 1..good.len() {
            assert_eq!(kind(&good[..cut]), io::ErrorKind::UnexpectedEof, "{cut}");
        }
        for (at, byte) in [(0, b'X'), (6, 0xff), (15, 1), (20, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(kind(&bad), io::ErrorKind::InvalidData, "{at}");
        }
    }
}
