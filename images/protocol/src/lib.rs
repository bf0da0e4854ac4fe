// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the VMM and the guest agent agree on.
//!
//! * [`pattern`]: the data every end of a transfer can produce and check on its own;
//! * [`disk`]: what is on the disk that a guest boots from;
//! * [`places`]: where the agent has what is its own in the guest's file system;
//! * [`plan`]: what the agent is asked to do, handed over in the device tree;
//! * [`report`]: the machine-readable lines among the agent's KTAP output.
#![forbid(unsafe_code)]

pub mod disk;
pub mod pattern;
pub mod places;
pub mod plan;
pub mod report;
