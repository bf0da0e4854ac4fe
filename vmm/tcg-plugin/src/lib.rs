// SPDX-License-Identifier: GPL-2.0-or-later
//! The part of the exact engine that QEMU loads: it hosts the machine and reports to it what the
//! guest's CPU does.
//!
//! [`ffi`] alone touches QEMU. What it is told goes to [`core`], which translates addresses
//! ([`mmu`], [`tlb`]) and calls the machine.

pub mod calls;
pub mod chain;
pub mod control;
pub mod core;
pub mod decode;
// QEMU's symbols exist in a QEMU process only: a test could not be linked.
#[cfg(not(test))]
pub mod ffi;
pub mod leaves;
pub mod logger;
pub mod mapped;
pub mod memory;
pub mod mmu;
pub mod probe;
pub mod qtest;
pub mod renew;
pub mod sites;
pub mod start;
pub mod tlb;
