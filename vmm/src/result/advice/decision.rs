// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a row comes to.

/// Help, and the facts it rests on; nothing if the row does not fit.
pub(super) type Decision = Option<(String, Vec<String>)>;

pub(super) fn says(help: impl Into<String>, notes: impl IntoIterator<Item = String>) -> Decision {
    Some((help.into(), notes.into_iter().collect()))
}
