// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where what comes of a guest goes.

use std::io;

use staleline_machine::engine::wire::Output;

/// Where output goes.
pub trait Sink {
    /// Takes some.
    ///
    /// # Errors
    /// Those of the other end.
    fn output(&mut self, output: Output, bytes: &[u8]) -> io::Result<()>;
}
