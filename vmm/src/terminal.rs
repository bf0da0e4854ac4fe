// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! This process's terminal while a guest has it: each key is passed on as it is pressed, and afterwards the
//! terminal is what it was, however the process ends.

use std::io;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level;

/// What the terminal was when it was first taken.
static WAS: OnceLock<Termios> = OnceLock::new();
/// Whether the guest has it.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The guest has the terminal as long as this lives.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Takes the terminal at standard input.
    ///
    /// # Errors
    /// If that is none.
    pub fn begin() -> io::Result<Self> {
        let found = tcgetattr(stdin())?;
        let was = WAS.get_or_init(|| found);
        let mut raw = was.clone();
        raw.make_raw();
        // What this program says meanwhile is still in lines.
        raw.output_modes = was.output_modes;
        TAKEN.store(true, Ordering::SeqCst);
        let raw = tcsetattr(stdin(), OptionalActions::Now, &raw).map(|()| Raw(()));
        Ok(raw?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was. Also for signal handlers: it takes no lock, allocates nothing, and makes
/// one system call.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst)
        && let Some(was) = WAS.get()
    {
        // There is nothing else to be done, and perhaps no terminal any more.
        let _ = tcsetattr(stdin(), OptionalActions::Now, was);
    }
}

/// From now on the terminal is given back at each signal that may end this process. To be called before
/// anybody asks to be told of them otherwise: who has come first is served first.
///
/// # Errors
/// Those of the operating system.
pub fn give_back_at_signals() -> io::Result<()> {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if std::mem::replace(&mut *done, true) {
        return Ok(());
    }
    for signal in [SIGINT, SIGTERM] {
        // SAFETY: what is called is fit for a signal handler, as it says.
        unsafe { low_level::register(signal, give_back) }?;
    }
    for signal in [SIGHUP, SIGQUIT] {
        let end = move || {
            give_back();
            let _ = low_level::emulate_default_handler(signal);
        };
        // SAFETY: likewise; signal-hook says that of the default's emulation.
        unsafe { low_level::register(signal, end) }?;
    }
    Ok(())
}
