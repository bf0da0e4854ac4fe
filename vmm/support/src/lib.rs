// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What builders and runs need of the machine they run on: the table of what has to be there, the
//! cache's directory, where Staleline's own files are, files that appear whole, content hashes, text and times for
//! people, and a way to show that a long step is alive.

pub mod cache;
pub mod cargo;
pub mod child;
pub mod digest;
pub mod files;
pub mod home;
pub mod kib;
pub mod lock;
pub mod needs;
pub mod progress;
pub mod text;
pub mod time;
