// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Progress on stderr: a spinner on a terminal, else one line per step.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::backend::Progress;

/// Progress of one command.
pub struct Stderr {
    spinner: Option<ProgressBar>,
}

impl Stderr {
    /// For this process.
    pub fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}");
            let bar = ProgressBar::new_spinner();
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Stderr { spinner }
    }

    /// Makes room for other output.
    pub fn clear(&self) {
        if let Some(bar) = &self.spinner {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Stderr {
    fn step(&self, what: &str) {
        match &self.spinner {
            Some(bar) => {
                bar.set_message(what.to_owned());
                bar.reset_elapsed();
            }
            // A closed stderr is no reason to stop.
            None => drop(writeln!(std::io::stderr(), "staleline: {what}")),
        }
    }

    fn suspend(&self) {
        self.clear();
    }

    fn detail(&self, what: &str) {
        if let Some(bar) = &self.spinner {
            bar.set_message(what.to_owned());
        }
    }
}
