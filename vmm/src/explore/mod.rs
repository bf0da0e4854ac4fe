// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Seeds as a search: each is one run, drawn from all that scenarios may say ([`draw`]), and must come to what holds
//! for every run ([`holds`]). What does not is written down ([`known`]), and tried before all else the next time
//! ([`runner`]).

pub mod draw;
pub mod holds;
pub mod known;
pub mod runner;
#[cfg(test)]
mod tests;
