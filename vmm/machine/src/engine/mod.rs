// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an engine and the machine that it hosts have to do with each other, wherever that is.

pub mod abi;
pub mod beside;
pub mod calls;
pub mod chains;
pub mod guest;
pub mod handover;
pub mod memory;
pub mod sites;
pub mod wire;

pub use calls::BufferCode;
pub use chains::Observations;
pub use guest::GuestKind;
pub use handover::{Handover, HandoverError};
pub use sites::SiteTable;

/// What a guest has done that asks for a reset.
pub const RESTARTED: &str = "it was restarted, as a kernel that panics does, or by reboot(2)";
