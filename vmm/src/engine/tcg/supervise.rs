// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The life of one QEMU process: start it, talk to it, wait for it, and never leave it behind.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus};
use std::time::{Duration, Instant};

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::{Value, json};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::timerfd::TimerFd;

use super::abi::{FATAL_EXIT_CODE, FromPlugin, LOG_PREFIX, TcgStats, ToPlugin};
use super::lines::{Lines, Tail, file_tail};
use super::{EngineError, QemuError, os};
use crate::interrupt::Interrupt;
use staleline_results::GuestEnd;

/// QOM parent of the devices that the board creates.
const BOARD: &str = "/machine/unattached";
/// QOM type of the interrupt controller, as a property type.
const GIC: &str = "child<arm-gicv3>";

/// QMP's reason for a shutdown that was asked for.
const QUIT: &str = "host-qmp-quit";
/// How long a machine may take to stop and to leave its report once the time limit is reached.
const GRACE: Duration = Duration::from_secs(5);

/// A QEMU to be run.
pub(super) struct Supervision<'a> {
    pub command: Command,
    pub program: &'a Path,
    pub plugin: &'a Path,
    pub console: &'a Path,
    pub timeout: Duration,
    pub interrupt: &'a Interrupt,
}

/// A guest that has ended well.
pub(super) struct Ended {
    pub end: GuestEnd,
    pub wall_time: Duration,
    pub stats: TcgStats,
    /// How often the machine was saved and restored.
    pub restored: u64,
}

impl Supervision<'_> {
    /// Runs it. `qmp` and `control` are our ends of its sockets.
    pub(super) fn run(
        mut self,
        qmp: UnixStream,
        control: UnixStream,
    ) -> Result<Ended, EngineError> {
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
        let session = Session::new(&mut child.child, qmp, control, self.timeout, waker)?;
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
        self.judge(session, status)
    }

    /// What the end of the process means.
    fn judge(&self, session: Session, status: ExitStatus) -> Result<Ended, EngineError> {
        let stderr = session.stderr_tail.text();
        if let Some(message) = session.fatal {
            return Err(EngineError::MachineFailed { message });
        }
        match session.failure {
            Some(Failure::Stopped(Stop::Interrupted)) => return Err(EngineError::Interrupted),
            // Whatever that is, it has not even greeted.
            Some(Failure::Stopped(Stop::TimedOut)) if session.awaiting == Awaiting::Greeting => {
                return Err(QemuError::Protocol(format!(
                    "QEMU said nothing within {} s",
                    self.timeout.as_secs_f32()
                ))
                .into());
            }
            Some(Failure::Stopped(Stop::TimedOut)) => {
                return Err(EngineError::Timeout {
                    timeout: self.timeout,
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
                what: "it reset itself, as a kernel that panics does".into(),
            },
            Some(QUIT) if session.stop == Some(Stop::TimedOut) => GuestEnd::TimedOut,
            Some(QUIT) if session.stop.is_some() => GuestEnd::Interrupted,
            Some(reason) => return Err(no_power_off(format!("{reason:?} in QEMU's words"))),
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
            log::log!(level, "{line}");
        }
        let (stats, restored) = session
            .finished
            .ok_or_else(|| QemuError::Protocol("the plugin has not reported".into()))?;
        Ok(Ended {
            end,
            wall_time: session.wall_time,
            stats,
            restored,
        })
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

/// Why a guest is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The time limit was reached.
    TimedOut,
    /// The user wants no more.
    Interrupted,
}

enum Failure {
    /// It would not stop in order.
    Stopped(Stop),
    Protocol(String),
}

/// Which of our QMP commands QEMU has yet to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    Greeting,
    Capabilities,
    Gic,
    Continue,
    Quit,
    Nothing,
}

/// The conversation with QEMU and the plugin.
struct Session {
    pidfd: OwnedFd,
    timer: TimerFd,
    qmp: Lines,
    control: Lines,
    stderr: Option<ChildStderr>,
    awaiting: Awaiting,
    resumed: Instant,
    wall_time: Duration,
    exited: bool,
    /// Readable once the user wants no more.
    waker: Option<UnixStream>,
    /// QEMU was asked to stop.
    stop: Option<Stop>,
    failure: Option<Failure>,
    /// QMP's reason for the shutdown.
    shutdown: Option<String>,
    fatal: Option<String>,
    finished: Option<(TcgStats, u64)>,
    stderr_tail: Tail,
}

// Tags of the event sources.
const EXIT: u32 = 0;
const TIMER: u32 = 1;
const QMP: u32 = 2;
const CONTROL: u32 = 3;
const STDERR: u32 = 4;
const INTERRUPT: u32 = 5;

impl Session {
    fn new(
        child: &mut Child,
        qmp: UnixStream,
        control: UnixStream,
        timeout: Duration,
        waker: Option<UnixStream>,
    ) -> Result<Self, EngineError> {
        let what = "watch QEMU";
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())
            .map_err(|e| os(what)(e.into()))?;
        let stderr = child.stderr.take();
        if let Some(stderr) = &stderr {
            fcntl_getfl(stderr)
                .and_then(|flags| fcntl_setfl(stderr, flags | OFlags::NONBLOCK))
                .map_err(|e| os(what)(e.into()))?;
        }
        let mut timer = TimerFd::new().map_err(|e| os(what)(e.into()))?;
        timer.reset(timeout, None).map_err(|e| os(what)(e.into()))?;
        Ok(Session {
            pidfd,
            timer,
            qmp: Lines::new(qmp).map_err(os(what))?,
            control: Lines::new(control).map_err(os(what))?,
            stderr,
            awaiting: Awaiting::Greeting,
            resumed: Instant::now(),
            wall_time: Duration::ZERO,
            exited: false,
            waker,
            stop: None,
            failure: None,
            shutdown: None,
            fatal: None,
            finished: None,
            stderr_tail: Tail::default(),
        })
    }

    /// Reads what a process that has ended left in its pipes.
    fn drain(&mut self) {
        self.read_qmp();
        self.read_control();
        while self.read_stderr() {}
    }

    fn protocol_error(&mut self, message: String) {
        // The first one is the cause.
        self.failure.get_or_insert(Failure::Protocol(message));
    }

    fn read_qmp(&mut self) {
        let lines = match self.qmp.read() {
            Ok(lines) => lines,
            Err(e) => return self.protocol_error(format!("reading QMP: {e}")),
        };
        for line in lines {
            let result = match serde_json::from_slice(&line) {
                Ok(message) => self.on_qmp(&message),
                Err(e) => Err(format!("QMP message: {e}")),
            };
            if let Err(message) = result {
                self.protocol_error(message);
            }
        }
    }

    fn on_qmp(&mut self, message: &Value) -> Result<(), String> {
        if let Some(event) = message.get("event") {
            if event == "SHUTDOWN" {
                self.wall_time = self.resumed.elapsed();
                let reason = message["data"]["reason"].as_str().unwrap_or_default();
                self.shutdown = Some(reason.to_owned());
            }
            return Ok(());
        }
        if let Some(error) = message.get("error") {
            return Err(format!("QMP in state {:?}: {error}", self.awaiting));
        }
        match self.awaiting {
            Awaiting::Greeting if message.get("QMP").is_some() => self.execute(
                &json!({"execute": "qmp_capabilities"}),
                Awaiting::Capabilities,
            ),
            Awaiting::Capabilities => self.execute(
                &json!({"execute": "qom-list", "arguments": {"path": BOARD}}),
                Awaiting::Gic,
            ),
            Awaiting::Gic => {
                let gic = find_gic(&message["return"])
                    .ok_or_else(|| format!("no {GIC} below {BOARD}"))?;
                self.send_plugin(&ToPlugin::Start { gic })?;
                self.resumed = Instant::now();
                self.execute(&json!({"execute": "cont"}), Awaiting::Continue)
            }
            Awaiting::Continue | Awaiting::Quit => {
                self.awaiting = Awaiting::Nothing;
                Ok(())
            }
            Awaiting::Greeting | Awaiting::Nothing => {
                Err(format!("unexpected QMP message: {message}"))
            }
        }
    }

    /// No more of it. What a guest that runs has done so far is worth a report, which the machine makes when
    /// QEMU is asked to stop; one that does not is killed.
    fn stop(&mut self, why: Stop) {
        let runs = self.awaiting == Awaiting::Nothing && self.stop.is_none();
        let why = *self.stop.get_or_insert(why);
        let timed = runs && self.timer.reset(GRACE, None).is_ok();
        let quit = json!({"execute": "quit"});
        if !(timed && self.execute(&quit, Awaiting::Quit).is_ok()) {
            self.failure.get_or_insert(Failure::Stopped(why));
        }
    }

    fn execute(&mut self, command: &Value, then: Awaiting) -> Result<(), String> {
        self.awaiting = then;
        // In one write: QEMU acts on the closing brace, and may be gone before a newline follows.
        let line = format!("{command}\n");
        let written = self.qmp.stream.write_all(line.as_bytes());
        written.map_err(|e| format!("writing QMP: {e}"))
    }

    fn send_plugin(&mut self, message: &ToPlugin) -> Result<(), String> {
        serde_json::to_string(message)
            .map_err(std::io::Error::from)
            .and_then(|json| {
                self.control
                    .stream
                    .write_all(format!("{json}\n").as_bytes())
            })
            .map_err(|e| format!("writing to the plugin: {e}"))
    }

    fn read_control(&mut self) {
        let lines = match self.control.read() {
            Ok(lines) => lines,
            Err(e) => return self.protocol_error(format!("reading from the plugin: {e}")),
        };
        for line in lines {
            match serde_json::from_slice(&line) {
                Ok(FromPlugin::Started) => {}
                Ok(FromPlugin::Fatal { message }) => self.fatal = Some(message),
                Ok(FromPlugin::Finished { stats, restored }) => {
                    self.finished = Some((stats, restored))
                }
                Err(e) => self.protocol_error(format!("message from the plugin: {e}")),
            }
        }
    }

    /// Reads some of what there is of stderr; whether there may be more.
    fn read_stderr(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match self.stderr.as_mut().map(|stderr| stderr.read(&mut chunk)) {
            Some(Ok(len)) if len > 0 => {
                self.stderr_tail.push(&chunk[..len]);
                true
            }
            Some(Err(e)) => e.kind() == std::io::ErrorKind::Interrupted,
            _ => false,
        }
    }
}

/// The path of the interrupt controller in the answer to `qom-list`.
fn find_gic(list: &Value) -> Option<String> {
    let name = list
        .as_array()?
        .iter()
        .find(|property| property["type"] == GIC)?["name"]
        .as_str()?;
    Some(format!("{BOARD}/{name}"))
}

impl MutEventSubscriber for Session {
    fn init(&mut self, ops: &mut EventOps) {
        let mut sources = vec![
            Events::with_data(&self.pidfd, EXIT, EventSet::IN),
            Events::with_data(&self.timer, TIMER, EventSet::IN),
            Events::with_data(&self.qmp.stream, QMP, EventSet::IN),
            Events::with_data(&self.control.stream, CONTROL, EventSet::IN),
        ];
        if let Some(stderr) = &self.stderr {
            sources.push(Events::with_data(stderr, STDERR, EventSet::IN));
        }
        if let Some(waker) = &self.waker {
            sources.push(Events::with_data(waker, INTERRUPT, EventSet::IN));
        }
        for events in sources {
            if let Err(e) = ops.add(events) {
                self.protocol_error(format!("watching QEMU: {e}"));
            }
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        // A source that has ended would be reported for ever.
        let goes_on = match events.data() {
            EXIT => {
                self.exited = true;
                false
            }
            TIMER => {
                // Takes the expiry; that there is one is known.
                let _ = self.timer.wait();
                self.stop(Stop::TimedOut);
                self.failure.is_none()
            }
            INTERRUPT => {
                if self.stop.is_none() {
                    self.stop(Stop::Interrupted);
                }
                false
            }
            QMP => {
                self.read_qmp();
                !self.qmp.closed
            }
            CONTROL => {
                self.read_control();
                !self.control.closed
            }
            // The end of the stream, too, is an event; anything else comes once it is there.
            _ => self.read_stderr() || !events.event_set().contains(EventSet::HANG_UP),
        };
        if !goes_on && let Err(e) = ops.remove(events) {
            self.protocol_error(format!("watching QEMU: {e}"));
        }
    }
}
