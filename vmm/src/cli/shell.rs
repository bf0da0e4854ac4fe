// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline shell`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use staleline_initramfs::busybox;
use staleline_protocol::plan::Terminal;
use staleline_support::cache::CacheDir;
use toml::Value;

use super::given::Given;
use super::{RunOptions, stdin};
use crate::engine::Attendance;
use crate::engine::attend::Console;
use crate::exit::Error;
use crate::scenario::exec::SCENARIO;
use crate::spec::{RunSpec, quote};

/// Its name among runs.
const NAME: &str = "shell";

/// Shells of a file system, the best first.
const SHELLS: [&str; 4] = ["/bin/sh", "/usr/bin/sh", "/bin/bash", "/bin/ash"];
/// And a program that is one, among others.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// What busybox does before it is a shell: it is known by all its names.
const APPLETS: &str = "/bin/busybox --install -s /bin; exec /bin/busybox sh";

/// A size for terminals that do not tell theirs.
const SIZE: Terminal = Terminal {
    rows: 24,
    columns: 80,
};

/// `staleline shell`.
#[derive(Debug, Args)]
#[command(
    after_help = "The guest is what `staleline run` boots, with busybox, or with your file system (--root). At \
    a terminal, its console is yours: each key goes to the guest, Ctrl-C too. `exit` or `poweroff` there ends \
    it, and so does Ctrl-A x (Ctrl-A a is a Ctrl-A for the guest); there is no time limit but --timeout. What \
    was typed cannot be replayed. Without a terminal, standard input up to 1 MiB is read first, and is what \
    the shell then runs, as `staleline exec` does; that can be. Exit codes are those of `staleline run`: 1 if \
    something was found, or the shell ended otherwise than with 0."
)]
pub struct ShellArgs {
    /// How it is run.
    #[command(flatten)]
    pub options: RunOptions,
    /// Give the guest this file system, with a shell in it.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Busybox for arm64 [default: STALELINE_BUSYBOX, or the one that scripts/get-busybox has fetched].
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    pub busybox: Option<PathBuf>,
    /// Give the guest a file or directory, as /root/NAME or as DESTINATION; may be repeated.
    #[arg(long, value_name = "SOURCE[:DESTINATION]")]
    pub file: Vec<String>,
    /// Set a variable of the shell's environment; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
}

impl ShellArgs {
    /// Whether it is at a terminal.
    pub fn is_live() -> bool {
        std::io::stdin().is_terminal()
    }

    /// How its guest is attended to.
    pub fn attendance(live: bool, other: Attendance) -> Attendance {
        match live {
            true => Attendance {
                console: Console::Terminal,
                ..other
            },
            false => other,
        }
    }

    /// The run that is asked for.
    ///
    /// # Errors
    /// Usage errors; among them that there is nothing for it to read, or no shell.
    pub fn spec(&self, live: bool) -> Result<RunSpec, Error> {
        let input = match live {
            true => None,
            // There is something, if only its end.
            false => Some(stdin::all_kept()?),
        };
        let root = match &self.root {
            Some(root) => root.clone(),
            None => {
                let cache = CacheDir::from_environment().map_err(|e| Error::Initramfs(e.into()))?;
                busybox::root(&cache, self.busybox.as_deref()).map_err(no_shell)?
            }
        };
        let mut env = Vec::new();
        if live {
            env.extend(std::env::var("TERM").map(|term| format!("TERM={term}")));
        }
        env.extend(self.env.iter().cloned());
        self.with(&root, input.as_deref(), &env)
    }

    fn with(&self, root: &Path, input: Option<&Path>, env: &[String]) -> Result<RunSpec, Error> {
        let file = |path: &Path| Value::String(path.display().to_string());
        let mut given = Given::default();
        given.list("--root", "guest.exec", &shell_of(root)?);
        given.flag("--root", format!("guest.root={}", file(root)));
        given.list("--file", "guest.files", &self.file);
        given.list("--env", "guest.env", env);
        if let Some(input) = input {
            given.flag("standard input", format!("guest.stdin={}", file(input)));
            // What is run may end so, as at a terminal.
            given.flag("standard input", "guest.may-power-off=true".into());
        }
        let mut spec = self.options.spec(SCENARIO, given)?;
        spec.scenario.name = NAME.into();
        if input.is_none() {
            spec.terminal = Some(size());
            spec.invocation = live_invocation(&spec.invocation);
        }
        Ok(spec)
    }
}

/// The command of a session at a terminal, by that of the program that is its shell.
fn live_invocation(exec: &str) -> String {
    let before = exec.split_once(" -- ").map_or(exec, |(before, _)| before);
    before.replacen("staleline exec", "staleline shell", 1)
}

fn size() -> Terminal {
    match terminal_size::terminal_size_of(std::io::stdin()) {
        Some((columns, rows)) => Terminal {
            rows: rows.0,
            columns: columns.0,
        },
        None => SIZE,
    }
}

/// The shell of a file system, and its arguments.
fn shell_of(root: &Path) -> Result<Vec<String>, Error> {
    // A link may lead where it only leads in the guest.
    let has = |path: &&&str| {
        root.join(path.trim_start_matches('/'))
            .symlink_metadata()
            .is_ok()
    };
    if let Some(shell) = SHELLS.iter().find(has) {
        return Ok(vec![(*shell).to_owned()]);
    }
    match BUSYBOX.iter().find(has) {
        Some(&"/bin/busybox") => Ok(["/bin/busybox", "sh", "-c", APPLETS]
            .map(str::to_owned)
            .into()),
        Some(busybox) => Ok(vec![(*busybox).to_owned(), "sh".into()]),
        None => Err(Error::Option {
            option: format!("--root {}", quote(&root.display().to_string())),
            why: format!(
                "there is no shell in it: none of {}, {}",
                SHELLS.join(", "),
                BUSYBOX.join(", ")
            ),
        }),
    }
}

fn no_shell(e: busybox::BusyboxError) -> Error {
    Error::Option {
        option: "--busybox".into(),
        why: staleline_support::text::chain(&e),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn args(words: &str) -> ShellArgs {
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        match cli.command {
            Command::Shell(args) => *args,
            _ => panic!("no shell"),
        }
    }

    fn root(with: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in with {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            // As in the guest, where it leads somewhere.
            std::os::unix::fs::symlink("/nowhere/else", file).unwrap();
        }
        root
    }

    #[test]
    fn a_shell_is_looked_for_in_the_file_system() {
        let of = |with: &[&str]| shell_of(root(with).path());
        assert_eq!(of(&["bin/busybox", "bin/sh"]).unwrap(), ["/bin/sh"]);
        assert_eq!(of(&["bin/busybox"]).unwrap()[..2], ["/bin/busybox", "sh"]);
        assert_eq!(of(&["usr/bin/busybox"]).unwrap()[1..], ["sh"]);
        let e = of(&["bin/ls"]).unwrap_err();
        assert_eq!(e.exit_code(), crate::exit::USAGE);
        assert!(e.to_string().contains("no shell in it"), "{e}");
    }

    #[test]
    fn what_is_typed_and_what_is_read_are_two_kinds_of_run() {
        let root = root(&["bin/sh"]);
        let args = args("staleline shell --seed 3 --qemu-arg -d --qemu-arg=int --file x");
        let live = args
            .with(root.path(), None, &["TERM=vt100".into()])
            .unwrap();
        assert_eq!(
            (&*live.scenario.name, live.terminal.is_some()),
            ("shell", true)
        );
        assert!(live.plan().exec.unwrap().terminal.is_some());
        let shown = &live.invocation;
        assert!(
            shown.starts_with("staleline shell --kernel base "),
            "{shown}"
        );
        assert!(shown.contains("--qemu-arg=-d --qemu-arg=int"), "{shown}");
        let read = args.with(root.path(), Some(Path::new("/in")), &[]).unwrap();
        assert_eq!(read.terminal, None);
        assert_eq!(read.plan().exec.unwrap().terminal, None);
        let shown = &read.invocation;
        assert!(
            shown.starts_with("staleline exec --kernel base "),
            "{shown}"
        );
        assert!(shown.ends_with("--qemu-arg=int -- /bin/sh"), "{shown}");
        assert!(shown.contains("--stdin /in"), "{shown}");
    }
}
