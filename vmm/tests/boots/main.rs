// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whole boots: the command, the real QEMU, the real kernel, all drivers, and what comes of it.
//!
//! They need QEMU, the plugin (`cargo build -p staleline-tcg`) and the guest kernels
//! (`staleline kernel build`); what is missing fails the test that needs it and is named.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use staleline_testing as support;

mod arguments;
mod blk;
mod board;
mod campaign;
mod clients;
mod compare;
mod console;
mod cost;
mod cpus;
mod debugger;
mod determinism;
mod device_tree;
mod errors;
mod exec;
mod explore;
mod exporters;
mod gdma;
mod given;
mod hosted;
mod installed;
mod interrupts;
mod kvm;
mod log;
mod mechanisms;
mod memory;
mod memory_map;
mod minimise;
mod module;
mod mutation;
mod newest;
mod output;
mod outside;
mod own_kernel;
mod own_matrix;
mod parts;
mod readme;
mod selfcheck;
mod shell;
mod smmu;
mod snapshot;
mod state;
mod system_calls;
mod wake_ups;
