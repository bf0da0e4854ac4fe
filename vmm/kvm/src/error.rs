// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Why a guest could not be run. None of this says anything about the software under test.

use std::io;

use staleline_machine::boot::BootError;

use crate::sandbox::SandboxError;
use crate::snapshot::{PAGE, SnapshotError};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// There is no KVM, or it is not for us.
    #[error("cannot open /dev/kvm")]
    Open(#[source] kvm_ioctls::Error),
    /// KVM lacks something.
    #[error("this KVM has no {0}")]
    Lacks(&'static str),
    /// The CPUs lack FEAT_S2FWB.
    #[error(
        "this machine's CPUs lack FEAT_S2FWB (Armv8.4): what a guest maps as non-cacheable would go past the caches that \
         the VMM's devices read it through"
    )]
    NoWriteBack,
    /// KVM refused something.
    #[error("KVM cannot {what}")]
    Refused {
        /// What was being done.
        what: &'static str,
        /// Why not.
        source: kvm_ioctls::Error,
    },
    /// A thread cannot be confined.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The images do not load.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The operating system refused something.
    #[error("cannot {what}")]
    Os {
        /// What was being done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// There is no such machine.
    #[error("the machine cannot be built: {0}")]
    Machine(String),
    /// What the request asks for is no machine.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// The guest did something that KVM gives no account of.
    #[error("CPU {cpu} has come out of the guest for something that cannot be carried out: {what}{}", at(*.pc))]
    Exit {
        /// Which CPU.
        cpu: u8,
        /// Why it came out.
        what: String,
        /// Virtual address of the instruction.
        pc: Option<u64>,
    },
    /// Pages of the host's have another size than the guest's and those of files.
    #[error("this host's kernel has pages of {0} bytes, and the VMM needs them to have {PAGE}")]
    Pages(usize),
    /// The guest has mapped more as non-cacheable than can be one memory with DRAM.
    #[error(
        "the guest has mapped more than {most} pages as non-cacheable at a time, which are one memory for it and \
         devices of the host"
    )]
    TooManyShared {
        /// So many can be.
        most: usize,
    },
    /// A register of a CPU cannot be set to what it held.
    #[error(
        "CPU {cpu} cannot have what register {id:#018x} held: this machine's CPU, or its KVM, is another one"
    )]
    Register {
        /// Which CPU.
        cpu: u8,
        /// KVM's number of it.
        id: u64,
    },
    /// A device of the host cannot be handed over.
    #[error("cannot have the host's device {device}: {why}")]
    Device {
        /// Its address.
        device: String,
        /// Why not.
        why: String,
        /// What to do about it.
        help: &'static str,
    },
    /// There is no going on from a snapshot, or it cannot be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

fn at(pc: Option<u64>) -> String {
    pc.map_or_else(String::new, |pc| format!(", at {pc:#x}"))
}

impl KvmError {
    /// For `map_err`: KVM refused `what`.
    pub fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
        move |source| KvmError::Refused { what, source }
    }

    /// For `map_err`: the operating system refused `what`.
    pub fn os<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> KvmError {
        move |source| KvmError::Os {
            what,
            source: source.into(),
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            KvmError::Open(e) if e.errno() == rustix::io::Errno::ACCESS.raw_os_error() => {
                "let your user have it, by its group (`usermod -aG kvm USER`, then log in again)"
            }
            KvmError::Open(_) => {
                "is KVM in this machine's kernel, and virtualisation on in its firmware?"
            }
            KvmError::Lacks(_) => "it takes Linux 5.5 or later, on a machine with a GICv3",
            KvmError::NoWriteBack => {
                "use the exact engine here, which is the default (--engine tcg)"
            }
            KvmError::Refused { .. } => "look at the kernel's log (`dmesg`) for why",
            KvmError::Sandbox(e) => e.help(),
            KvmError::Boot(e) => e.help(),
            KvmError::Device { help, .. } => help,
            KvmError::Os { .. } => "check memory and file descriptor limits",
            KvmError::Machine(_) | KvmError::BadRequest(_) => {
                "please report this with the scenario"
            }
            KvmError::Pages(_) => "boot it with a kernel that has CONFIG_ARM64_4K_PAGES",
            KvmError::TooManyShared { .. } => {
                "have drivers allocate less coherent (non-cacheable) memory, or put the devices on the port hpc"
            }
            KvmError::Register { .. } => "make the snapshot anew, on this machine",
            KvmError::Snapshot(_) => SnapshotError::HELP,
            KvmError::Exit { .. } => {
                "look at console.log for what the guest was doing; a device's registers are to be accessed by \
                 single loads and stores of up to 8 bytes (readl(), writel() and the like)"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_use_kvm_is_told_how_to() {
        let errno = |errno: rustix::io::Errno| kvm_ioctls::Error::new(errno.raw_os_error());
        let denied = KvmError::Open(errno(rustix::io::Errno::ACCESS));
        assert_eq!(denied.to_string(), "cannot open /dev/kvm");
        assert!(denied.help().contains("usermod -aG kvm"));
        let none = KvmError::Open(errno(rustix::io::Errno::NOENT));
        assert!(none.help().contains("is KVM in this machine's kernel"));
    }

    #[test]
    fn an_exit_is_told_with_its_place() {
        let mut exit = KvmError::Exit {
            cpu: 2,
            what: "an access".into(),
            pc: Some(0x1234),
        };
        assert!(
            exit.to_string()
                .ends_with("carried out: an access, at 0x1234"),
            "{exit}"
        );
        if let KvmError::Exit { pc, .. } = &mut exit {
            *pc = None;
        }
        assert!(exit.to_string().ends_with("an access"), "{exit}");
    }
}
