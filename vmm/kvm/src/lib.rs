// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The VMM of the KVM engine: an arm64 guest on KVM, and the chip beside it.
//!
//! It runs as a child of the command that the user has started, where that machine's KVM can run arm64
//! guests, and as the only process of an emulated machine elsewhere ([`init`]). Either way it is told what to
//! run over one connection ([`serve`]), and is otherwise the same.

pub mod blobs;
pub mod pause;
pub mod pci;
pub mod sandbox;
pub mod sink;
pub mod snapshot;
pub mod uart;

#[cfg(target_arch = "aarch64")]
pub mod below;
#[cfg(target_arch = "aarch64")]
pub mod beside;
#[cfg(target_arch = "aarch64")]
pub mod bus;
#[cfg(target_arch = "aarch64")]
pub mod dram;
#[cfg(target_arch = "aarch64")]
pub mod error;
#[cfg(target_arch = "aarch64")]
pub mod gic;
#[cfg(target_arch = "aarch64")]
pub mod guest;
#[cfg(target_arch = "aarch64")]
pub mod init;
#[cfg(target_arch = "aarch64")]
pub mod initial;
#[cfg(target_arch = "aarch64")]
pub mod memory;
#[cfg(target_arch = "aarch64")]
pub mod serve;
#[cfg(target_arch = "aarch64")]
pub mod shortcut;
#[cfg(target_arch = "aarch64")]
pub mod spare;
#[cfg(target_arch = "aarch64")]
pub mod supervise;
#[cfg(target_arch = "aarch64")]
pub mod unpacked;
#[cfg(target_arch = "aarch64")]
pub mod vcpu;
#[cfg(target_arch = "aarch64")]
pub mod vfio;
