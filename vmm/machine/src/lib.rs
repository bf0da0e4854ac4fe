// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The machine that engines drive: the one description of the board, what it derives, how the guest is
//! loaded, and the log of what happens. Engines and whoever starts them share it; it knows neither.

pub mod board;
pub mod boot;
pub mod engine;
pub mod events;
pub mod names;
pub mod snapshot;
