// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The board and everything around it: boot loading, engines, scenarios, runs and reports.

pub mod board;
pub mod boot;
pub mod engine;
pub mod kernel;
//! The board and everything around it: boot loading and the engines that run the guest.

