// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline-kvm`: started by `staleline`, or as /init of an emulated machine; not by people.

use std::process::ExitCode;

#[cfg(target_arch = "aarch64")]
fn main() -> ExitCode {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use staleline_kvm::{beside, init, serve};

    if std::process::id() == 1 {
        return match init::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    // For measurements.
    let mut arguments = std::env::args_os().skip(1);
    if let (Some(what), Some(file)) = (arguments.next(), arguments.next()) {
        let done = match what.to_str() {
            Some("--once") => beside::once(file.as_ref()),
            Some("--beside") => beside::measure(file.as_ref()).map(|()| true),
            _ => Ok(false),
        };
        return match done {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(e) => {
                let _ = writeln!(std::io::stderr(), "staleline-kvm: {e}");
                ExitCode::FAILURE
            }
        };
    }
    // The connection is standard input, both ways.
    let dir = std::env::temp_dir().join(format!("staleline-kvm-{}", std::process::id()));
    let served = std::fs::create_dir(&dir).and_then(|()| {
        let connection = std::io::stdin().as_fd().try_clone_to_owned()?;
        let connection = UnixStream::from(connection);
        serve::serve(&dir, &connection, &connection)
    });
    // What cannot be removed is in the directory for that.
    let _ = std::fs::remove_dir_all(&dir);
    match served {
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
