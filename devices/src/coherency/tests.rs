// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Property tests of the whole domain.

mod counts;
mod cpus;
mod determinism;
mod driver;
mod events;
mod faults;
mod fences;
mod fetches;
mod hostile;
mod in_flight;
mod life;
mod logged;
mod mutation;
mod named;
mod ranges;
mod releases;
mod rig;
mod sizes;
mod state;
mod steps;
