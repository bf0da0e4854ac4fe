// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Property tests of the whole domain.

mod driver;
mod events;
mod mutation;
mod rig;
