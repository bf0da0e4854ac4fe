// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The life of one QEMU process: start it, talk to it, wait for it, and never leave it behind.

use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use event_manager::{EventManager, SubscriberOps};
use rustix::process::{Pid, Signal, kill_process_group};

use super::lines::file_tail;
use super::live::{Follow, Typing};
use super::session::{Awaiting, Failure, READY, Session, Stop, Terms};
use super::snapshot::Save;
use super::{EngineError, QemuError};
use crate::engine::description::GUEST_LOG;
use crate::engine::error::os;
use crate::interrupt::Interrupt;
use staleline_machine::engine::RESTARTED;
use staleline_machine::engine::abi::{FATAL_EXIT_CODE, LOG_PREFIX, TcgStats};
use staleline_results::GuestEnd;

/// QMP's reason for a shutdown that was asked for.
const QUIT: &str = "host-qmp-quit";

/// A QEMU to be run.
pub(super) struct Supervision<'a> {
    pub command: Command,
    pub program: &'a Path,
    pub plugin: &'a Path,
    pub console: &'a Path,
    pub timeout: Option<Duration>,
    pub interrupt: &'a Interrupt,
    pub follow: Option<Follow>,
    pub typing: Option<Typing>,
    /// Whether a debugger lets the guest go.
    pub debugger: bool,
    /// Whether QEMU was given arguments of the user's.
    pub arguments: bool,
    /// Descriptor of QEMU's part of a snapshot.
    pub migration: Option<RawFd>,
    /// The snapshot that is to be made.
    pub save: Option<Save>,
    /// Which QEMU has saved that which the guest goes on from.
    pub from: Option<String>,
}

/// A guest that has ended well.
pub(super) struct Ended {
    pub end: GuestEnd,
    pub wall_time: Duration,
    pub stats: TcgStats,
    /// How often the machine was saved and restored.
    pub restored: u64,
    /// Bytes that were typed for it, if that was asked for.
    pub typed: Option<u64>,
}

impl Supervision<'_> {
    /// Runs it. `qmp` and `control` are our ends of its sockets.
    pub(super) fn run(
        mut self,
        qmp: UnixStream,
        control: UnixStream,
    ) -> Result<Ended, EngineError> {
        let started = Instant::now();
        let child = self.command.spawn().map_err(|source| QemuError::Missing {
            program: self.program.to_owned(),
            source,
        })?;
        let mut child = Reaper {
            child,
            status: None,
        };
        // The command holds the child's ends of the sockets; ours must see them close.
        drop(std::mem::replace(&mut self.command, Command::new("")));

        let waker = self.interrupt.waker().map_err(os("watch for signals"))?;
        let terms = Terms {
            timeout: self.timeout,
            waker,
            follow: self.follow.take(),
            typing: self.typing.take(),
            debugger: self.debugger,
            migration: self.migration,
            save: self.save.take(),
            from: self.from.take(),
            started,
        };
        let session = Session::new(&mut child.child, qmp, control, terms)?;
        let mut manager = EventManager::new().map_err(events_failed)?;
        let id = manager.add_subscriber(session);
        let exited = |manager: &mut EventManager<Session>| {
            manager.subscriber_mut(id).map(|session| session.exited)
        };
        while !exited(&mut manager).map_err(events_failed)? {
            manager.run().map_err(events_failed)?;
            let session = manager.subscriber_mut(id).map_err(events_failed)?;
            if session.failure.is_some() {
                break;
            }
        }
        let mut session = manager.remove_subscriber(id).map_err(events_failed)?;
        let status = child.end().map_err(os("wait for QEMU"))?;
        session.drain();
        session.mark("QEMU is gone");
        let unsaved = session.give_up_save();
        let ended = self.judge(session, status)?;
        unsaved.map(Save::give_up).transpose()?;
        Ok(ended)
    }

    /// What the end of the process means.
    fn judge(&self, session: Session, status: ExitStatus) -> Result<Ended, EngineError> {
        let stderr = session.stderr_tail.text();
        let typed = session.typed();
        if self.arguments && !session.began && session.stop.is_none() {
            return Err(self.refused(session, status, stderr));
        }
        if let Some(message) = session.fatal {
            return Err(EngineError::MachineFailed { message });
        }
        if session.is_restoring() && !status.success() && session.failure.is_none() {
            return Err(QemuError::NotTaken(stderr).into());
        }
        match session.failure {
            Some(Failure::Own(error)) => return Err(error),
            Some(Failure::Stopped(Stop::Interrupted)) => return Err(EngineError::Interrupted),
            Some(Failure::Stopped(Stop::Left)) => return Err(EngineError::Left),
            // Whatever that is, it has not even greeted.
            Some(Failure::Stopped(Stop::TimedOut)) if session.awaiting == Awaiting::Greeting => {
                return Err(QemuError::Protocol(format!(
                    "QEMU said nothing within {} s",
                    self.timeout.unwrap_or(READY).as_secs_f32()
                ))
                .into());
            }
            Some(Failure::Stopped(Stop::TimedOut)) => {
                return Err(EngineError::Timeout {
                    timeout: self.timeout.unwrap_or(READY),
                    console: file_tail(self.console),
                });
            }
            Some(Failure::Protocol(message)) => return Err(QemuError::Protocol(message).into()),
            None => {}
        }
        if status.code() == Some(FATAL_EXIT_CODE) {
            return Err(EngineError::MachineFailed { message: stderr });
        }
        if !status.success() {
            return Err(self.crashed(status, stderr).into());
        }
        let no_power_off = |reason: String| EngineError::NoPowerOff {
            reason,
            console: file_tail(self.console),
        };
        let end = match session.shutdown.as_deref() {
            Some("guest-shutdown") => GuestEnd::PoweredOff,
            // With panic=-1, that is how a panic ends.
            Some("guest-reset") => GuestEnd::Died {
                what: RESTARTED.into(),
            },
            Some(QUIT) if session.stop == Some(Stop::TimedOut) => GuestEnd::TimedOut,
            Some(QUIT) if session.stop == Some(Stop::Left) => GuestEnd::Left,
            Some(QUIT) if session.stop.is_some() => GuestEnd::Interrupted,
            Some(reason) => return Err(no_power_off(format!("{reason:?} in QEMU's words"))),
            // The debugger's `kill`: QEMU says so on its stderr only.
            None if self.debugger && session.began => GuestEnd::Left,
            None => {
                return Err(no_power_off(
                    "by itself, without a word on its control socket".into(),
                ));
            }
        };
        for line in stderr.lines() {
            // QEMU itself has a warning about every run whose guest once had no timer.
            let own = line.starts_with(LOG_PREFIX);
            let level = if own {
                log::Level::Warn
            } else {
                log::Level::Debug
            };
            log::log!(target: GUEST_LOG, level, "{line}");
        }
        let (stats, restored) = session
            .finished
            .ok_or_else(|| QemuError::Protocol("the plugin has not reported".into()))?;
        Ok(Ended {
            end,
            wall_time: session.wall_time,
            stats,
            restored,
            typed,
        })
    }

    /// What keeps a QEMU from starting that was given arguments of the user's.
    fn refused(&self, session: Session, status: ExitStatus, stderr: String) -> EngineError {
        let said = match (session.failure, session.fatal) {
            _ if !stderr.is_empty() => stderr.clone(),
            (_, Some(message)) | (Some(Failure::Protocol(message)), _) => message,
            _ => format!("QEMU ended without having started the guest ({status})"),
        };
        match self.crashed(status, stderr) {
            QemuError::Crashed { .. } => EngineError::Arguments { why: said },
            other => other.into(),
        }
    }

    /// Tells a QEMU that refused to start from one that broke. The texts are those of QEMU
    /// 9.2 to 10.1 (`plugins/loader.c`, `include/qemu/plugin.h`).
    fn crashed(&self, status: ExitStatus, stderr: String) -> QemuError {
        if stderr.contains("plugin interface not enabled") {
            return QemuError::PluginsUnsupported {
                program: self.program.to_owned(),
            };
        }
        if stderr.contains("Could not load plugin") {
            return QemuError::PluginRejected {
                plugin: self.plugin.to_owned(),
                stderr,
            };
        }
        QemuError::Crashed { status, stderr }
    }
}

fn events_failed(error: event_manager::Error) -> EngineError {
    os("watch QEMU")(std::io::Error::other(error))
}

/// Kills and reaps the process when it goes out of scope.
struct Reaper {
    child: Child,
    status: Option<ExitStatus>,
}

impl Reaper {
    /// Ends the process if it still runs; its exit status.
    fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        // The whole group: "QEMU" may be a script that has started it. An exit status that is
        // there already stays, and until it is taken the group's number cannot be used again.
        kill_process_group(Pid::from_child(&self.child), Signal::KILL)?;
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            log::error!("cannot end QEMU, process {}: {e}", self.child.id());
        }
    }
}
