// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Litmus cases for cache coherency between CPUs and DMA masters, and what judges them.
//!
//! A case is a list of events of all observers ([`program`], written in the language of
//! [`event`], kept in the files of [`case`]). [`order`] says what the architecture orders;
//! [`explore`] enumerates everything else: all fills, evictions, write-backs, and moments at which
//! an operation takes effect. [`symptom`] reads off what is wrong, [`repair`] which operation makes
//! it vanish, and [`due`] what finding is due. [`builtin`] is the corpus, [`verdict`] compares.
//! [`caveat`] is what an answer rests on, and [`reach`] what that goes by.
//!
//! Nothing here knows the sanitizer: it is what the sanitizer is compared with. [`races`] and
//! [`shrink`] help to understand a difference.

#![forbid(unsafe_code)]

pub mod builtin;
pub mod case;
pub mod caveat;
pub mod directed;
mod distinct;
pub mod due;
pub mod event;
pub mod explore;
pub mod generate;
pub mod order;
pub mod program;
pub mod races;
pub mod reach;
pub mod repair;
pub mod shrink;
pub mod symptom;
pub mod verdict;
