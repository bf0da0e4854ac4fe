// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Manual pages and shell completion, made of the command line's own description.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use crate::exit::Error;

/// `staleline completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `staleline man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The directory that gets the pages; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// The script for that shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "staleline", &mut script);
    script
}

/// Writes a page for the command and for each of its subcommands.
///
/// # Errors
/// [`Error::Output`].
pub fn manual(dir: &Path) -> Result<(), Error> {
    let output = |source| Error::Output {
        path: dir.to_owned(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(output)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_readme() {
        let readme = include_str!("../../../README.md");
        let mut missing = Vec::new();
        let mut left = vec![Cli::command()];
        while let Some(command) = left.pop() {
            left.extend(command.get_subcommands().cloned());
            for option in command.get_arguments().filter_map(|a| a.get_long()) {
                let option = format!("--{option}");
                // That, and not one that begins like it.
                let more = |c: char| c.is_ascii_alphanumeric() || c == '-';
                let is_there = readme.match_indices(&option).any(|(at, found)| {
                    let after = readme.get(at + found.len()..).unwrap_or_default();
                    !after.starts_with(more)
                });
                if !is_there {
                    missing.push(format!("{} {option}", command.get_name()));
                }
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn every_command_has_a_page_and_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        manual(dir.path()).unwrap();
        let script = String::from_utf8(completions(Shell::Bash)).unwrap();
        let cli = Cli::command();
        assert!(cli.get_subcommands().count() > 8);
        for command in cli.get_subcommands() {
            let name = command.get_name();
            let page = dir.path().join(format!("staleline-{name}.1"));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(text.contains(".SH SYNOPSIS"), "{name}:\n{text}");
            assert!(script.contains(name), "{name}");
        }
        let page = std::fs::read_to_string(dir.path().join("staleline.1")).unwrap();
        assert!(page.contains("Exit codes"), "{page}");
    }
}
