// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Ctrl-C and SIGTERM: the first asks for an end in order, with what there is by then; the second ends the
//! process at once. QEMU goes with it either way.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// Whether the user wants no more. By default nobody ever says so.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Option<Arc<Said>>);

#[derive(Debug)]
struct Said {
    /// The signal, or 0.
    signal: Arc<AtomicUsize>,
    /// There is something to read as soon as one came. Nobody reads it, so that all are woken.
    woken: UnixStream,
}

impl Interrupt {
    /// By the signals of this process, whose default is off from now on; `code` is the exit code at once.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn of_this_process(code: fn(u8) -> u8) -> io::Result<Self> {
        let once = Arc::new(AtomicBool::new(false));
        let signal = Arc::new(AtomicUsize::new(0));
        let (woken, wake) = UnixStream::pair()?;
        for (number, value) in [(SIGINT, 2), (SIGTERM, 15)] {
            // In this order: the first signal finds that there was none.
            flag::register_conditional_shutdown(number, code(value).into(), Arc::clone(&once))?;
            flag::register(number, Arc::clone(&once))?;
            flag::register_usize(number, Arc::clone(&signal), value.into())?;
            low_level::pipe::register(number, wake.try_clone()?)?;
        }
        Ok(Interrupt(Some(Arc::new(Said { signal, woken }))))
    }

    /// The signal that came.
    pub fn signal(&self) -> Option<u8> {
        let signal = self.0.as_ref()?.signal.load(Ordering::Relaxed);
        u8::try_from(signal).ok().filter(|signal| *signal != 0)
    }

    /// Whether one came.
    pub fn came(&self) -> bool {
        self.signal().is_some()
    }

    /// Becomes readable, for good, when one comes; none if none ever does.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn waker(&self) -> io::Result<Option<UnixStream>> {
        let said = self.0.as_ref();
        said.map(|said| said.woken.try_clone()).transpose()
    }

    /// One that has come, or comes with the other end that is given with it.
    #[cfg(test)]
    #[allow(clippy::unwrap_used, reason = "this is for tests")]
    pub fn for_tests(signal: u8) -> (Self, UnixStream) {
        let (woken, wake) = UnixStream::pair().unwrap();
        let signal = Arc::new(AtomicUsize::new(signal.into()));
        (Interrupt(Some(Arc::new(Said { signal, woken }))), wake)
    }
}
