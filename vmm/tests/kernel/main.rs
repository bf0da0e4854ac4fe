// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline kernel`, and kernels of the user's own, as far as it goes without a guest.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod check;
mod own;
mod place;
