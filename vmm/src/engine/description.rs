// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an engine says of itself.

use staleline_devices::fidelity::Sight;

use super::{Engine, EngineError};

/// What is known of an engine before it is looked for.
#[derive(Debug)]
pub struct Description {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// What it sees of the guest.
    pub sees: &'static [Sight],
    /// Finds it on this machine.
    pub discover: fn() -> Result<Box<dyn Engine>, EngineError>,
}
