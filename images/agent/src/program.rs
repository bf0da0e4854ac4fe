// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a program of the user's is, however it is run.

use std::ffi::CString;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::unistd::Pid;
use staleline_guest::{Context, Error};
use staleline_protocol::plan::Exec;
use staleline_protocol::report::Report;

use crate::sys::{self, Role, Start};

/// How one ended.
#[derive(Clone, Copy)]
pub enum End {
    /// With that exit code.
    Exited(i32),
    /// By a signal.
    Killed(i32),
    /// It has not: the machine was to be switched off, which a terminal allows.
    Off,
}

impl End {
    /// What is told of it, and of so many processes that it has left behind.
    pub fn report(&self, left: u32) -> Option<Report> {
        let (code, signal) = match self {
            End::Exited(code) => (Some(*code), None),
            End::Killed(signal) => (None, Some(*signal)),
            End::Off => return None,
        };
        Some(Report::Exited { code, signal, left })
    }
}

/// Starts it, with these for standard input, output and error; this process must have no other thread.
pub fn start(exec: &Exec, stdio: [BorrowedFd<'_>; 3], role: Role) -> Result<Pid, Error> {
    fs::create_dir_all(&exec.dir).file("create", &exec.dir)?;
    let program = exec.argv.first().map_or("", String::as_str);
    let path = find(program, &exec.env);
    let text = |text: &str| CString::new(text).call("exec", program);
    let texts = |list: &[String]| list.iter().map(|s| text(s)).collect::<Result<Vec<_>, _>>();
    let started = sys::start(&Start {
        file: &text(&path)?,
        argv: &texts(&exec.argv)?,
        env: &texts(&exec.env)?,
        dir: &text(&exec.dir)?,
        stdio,
        role,
    });
    started.file("run", path)
}

/// The file of a program: a bare name is looked for as a shell does, by the last `PATH` of `env`.
fn find(program: &str, env: &[String]) -> String {
    let path = env.iter().rev().find_map(|v| v.strip_prefix("PATH="));
    let places = path.filter(|_| !program.contains('/')).unwrap_or_default();
    let all = places.split(':').filter(|place| !place.is_empty());
    let mut all = all.map(|place| format!("{place}/{program}"));
    let found = all.find(|file| Path::new(file).is_file());
    found.unwrap_or_else(|| program.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_for() {
        let env = ["PATH=/nonexistent:/bin:/usr/bin".to_owned()];
        assert_eq!(find("sh", &env), "/bin/sh");
        assert_eq!(find("./sh", &env), "./sh");
        assert_eq!(find("no-such-program", &env), "no-such-program");
        assert_eq!(find("sh", &[]), "sh");
    }
}
