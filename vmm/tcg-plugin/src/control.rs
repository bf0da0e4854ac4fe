// SPDX-License-Identifier: GPL-2.0-or-later
//! The plugin's words with the parent process.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

use staleline_machine::engine::abi::{FromPlugin, LOG_PREFIX, ToPlugin};

/// Longest message from the parent, in bytes.
const MESSAGE_LIMIT: u64 = 1 << 16;
/// The parent has nothing to do but answer.
const PATIENCE: Duration = Duration::from_secs(60);

static SOCKET: OnceLock<UnixStream> = OnceLock::new();

/// Keeps the socket for [`send`].
///
/// # Errors
/// If there is one already.
pub fn open(socket: UnixStream) -> Result<(), String> {
    SOCKET
        .set(socket)
        .map_err(|_| "the plugin was loaded twice".into())
}

/// Sends a message. Failure is logged only: the parent sees the socket close.
pub fn send(message: &FromPlugin) {
    let Some(mut socket) = SOCKET.get() else {
        eprintln!("{LOG_PREFIX}{message:?}");
        return;
    };
    let sent = serde_json::to_vec(message)
        .map_err(std::io::Error::from)
        .and_then(|mut line| {
            line.push(b'\n');
            socket.write_all(&line)
        });
    if let Err(e) = sent {
        eprintln!("{LOG_PREFIX}cannot reach the parent process: {e}");
    }
}

/// Waits for the start message; the QOM path of the interrupt controller.
///
/// # Errors
/// If it does not come, or something else does.
pub fn wait_for_start() -> Result<String, String> {
    let failed = |e: std::io::Error| format!("waiting for the start message: {e}");
    let socket = SOCKET.get().ok_or("there is no control socket")?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(socket.take(MESSAGE_LIMIT))
        .read_line(&mut line)
        .map_err(failed)?;
    match serde_json::from_str(&line) {
        Ok(ToPlugin::Start { gic }) => Ok(gic),
        Err(e) => Err(format!("start message {line:?}: {e}")),
    }
}
