// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How much memory a machine can have.

/// RAM and windows are multiples of it.
pub const MIB: u64 = 1 << 20;

/// No machine here has more.
pub const MEMORY_LIMIT: u64 = 32 << 30;

/// Checks a machine's RAM, and the device windows right above it, in bytes.
///
/// # Errors
/// What is wrong with them.
pub fn check(ram_bytes: u64, window_bytes: u64) -> Result<(), &'static str> {
    let whole = ram_bytes.is_multiple_of(MIB) && window_bytes.is_multiple_of(MIB);
    if ram_bytes == 0 || !whole {
        return Err("RAM and windows must be multiples of 1 MiB, RAM more than none");
    }
    match ram_bytes.checked_add(window_bytes) {
        Some(total) if total <= MEMORY_LIMIT => Ok(()),
        _ => Err("RAM and windows are more than 32 GiB"),
    }
}
