// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What people do with a guest while it runs.

/// How a guest is attended to. By default it is left alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attendance {
    /// Its console.
    pub console: Console,
    /// The TCP port of this host where a debugger is waited for before the first instruction.
    pub debugger: Option<u16>,
}

/// What becomes of a guest's console besides its log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Console {
    /// Nothing.
    #[default]
    Kept,
    /// What the guest says is shown on standard error as it comes.
    Shown,
    /// That, and what is typed at this process's terminal goes to the guest. Time is then that of the host.
    Terminal,
}
