// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline-kvm`: started by `staleline`, or as /init of an emulated machine; not by people.

use std::process::ExitCode;

#[cfg(target_arch = "aarch64")]
fn main() -> ExitCode {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use staleline_kvm::{beside, init, sandbox, serve};
    use staleline_machine::engine::wire::DEVICES;

    // Without a backtrace: that would be read from files, which few threads may.
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(std::io::stderr(), "staleline-kvm: {panic}");
    }));
    if std::process::id() == 1 {
        return match init::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    // For measurements.
    let mut arguments = std::env::args_os().skip(1);
    let (first, second) = (arguments.next(), arguments.next());
    let devices = second.as_ref().is_some_and(|second| second == DEVICES);
    if let (Some(what), Some(file), false) = (&first, &second, devices) {
        let done = match what.to_str() {
            Some(beside::EACH) => beside::each(file.as_ref()),
            Some("--beside") => beside::measure(file.as_ref()),
            _ => Err(std::io::ErrorKind::InvalidInput.into()),
        };
        return match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                let _ = writeln!(std::io::stderr(), "staleline-kvm: {e}");
                ExitCode::FAILURE
            }
        };
    }
    let Some(dir) = first else {
        let _ = writeln!(std::io::stderr(), "staleline-kvm: no directory is given");
        return ExitCode::FAILURE;
    };
    // The connection is standard input, both ways. Whoever has made the directory removes it.
    let serve = || {
        let connection = std::io::stdin().as_fd().try_clone_to_owned()?;
        let connection = UnixStream::from(connection);
        let dir = Path::new(&dir);
        let confined = sandbox::enter(dir, false, devices);
        serve::serve(dir, confined, &connection, &connection)
    };
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "staleline-kvm: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_arch = "aarch64"))]
fn main() -> ExitCode {
    eprintln!("staleline-kvm: this is a program for arm64 machines, started by `staleline`");
    ExitCode::FAILURE
}
