// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The coherency domain and its sanitizer as a judge of litmus cases, and how its judgement is
//! compared with the explorer's.
//!
//! [`domain`] plays a case's events to a domain, in the order of the list, as an engine and device
//! models would. [`agree`] compares what it finds with what is wrong, under all policies; [`operation`]
//! whether both mean the same operation to be missing. [`known`] lists the differences that remain,
//! each with its reason.
//!
//! The explorer (`staleline-litmus`) knows nothing of the domain, and the domain nothing of it:
//! they meet here only.

#![forbid(unsafe_code)]

pub mod agree;
pub mod agreement;
pub mod domain;
pub mod known;
pub mod operation;
pub mod ownership;
pub mod sample;
mod translate;
mod variants;

pub use agree::{Judgement, judge};
pub use agreement::Agreement;
pub use domain::{Error, Found, findings};
