// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The conversation with a QEMU process and its plugin, and with the user, as long as it lasts.

use std::io::{Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr};
use std::time::{Duration, Instant};

use event_manager::{EventOps, Events, MutEventSubscriber};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::timerfd::TimerFd;

use super::lines::{Lines, Tail};
use super::live::{Follow, Typed, Typing};
use super::snapshot::Save;
use super::{EngineError, QemuError};
use crate::engine::error::os;
use staleline_machine::engine::abi::{FromPlugin, TcgStats, ToPlugin};

/// QOM parent of the devices that the board creates.
const BOARD: &str = "/machine/unattached";
/// QOM type of the interrupt controller, as a property type.
const GIC: &str = "child<arm-gicv3>";

/// How long a machine may take to stop and to leave its report once the time limit is reached.
const GRACE: Duration = Duration::from_secs(5);
/// How long a QEMU may take to be ready for a guest that has no time limit.
pub(super) const READY: Duration = Duration::from_secs(60);

/// Why a guest is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The time limit was reached.
    TimedOut,
    /// The user wants no more.
    Interrupted,
    /// The user has left its console.
    Left,
}

pub(super) enum Failure {
    /// It would not stop in order.
    Stopped(Stop),
    Protocol(String),
    /// Anything else.
    Own(EngineError),
}

/// Which of our QMP commands QEMU has yet to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaiting {
    Greeting,
    Capabilities,
    /// That it may write or read a snapshot.
    Settings(Way),
    /// That it has begun to.
    Migration(Way),
    /// None: that it has done so.
    Migrated(Way),
    /// That it knows so itself.
    Standing,
    Gic,
    /// None: it is the debugger's to let the guest go.
    Debugger,
    Continue,
    Quit,
    Nothing,
}

/// What QEMU does with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// How it is talked.
pub(super) struct Terms {
    /// None: the guest may take as long as it likes.
    pub timeout: Option<Duration>,
    /// Readable once the user wants no more.
    pub waker: Option<UnixStream>,
    pub follow: Option<Follow>,
    pub typing: Option<Typing>,
    /// Whether a debugger lets the guest go.
    pub debugger: bool,
    /// Descriptor of QEMU's part of a snapshot.
    pub migration: Option<RawFd>,
    /// The snapshot that is to be made.
    pub save: Option<Save>,
    /// Which QEMU has saved that which the guest goes on from.
    pub from: Option<String>,
    /// When QEMU was started.
    pub started: Instant,
}

/// The conversation with QEMU and the plugin.
pub(super) struct Session {
    terms: Terms,
    pidfd: OwnedFd,
    timer: TimerFd,
    qmp: Lines,
    control: Lines,
    stderr: Option<ChildStderr>,
    pub awaiting: Awaiting,
    /// Which QEMU it is.
    qemu: String,
    /// The machine was saved after so many loads and stores.
    saved: Option<u64>,
    /// QEMU has written or read its part of the snapshot.
    migrated: bool,
    /// The guest has been let go.
    pub began: bool,
    resumed: Instant,
    pub wall_time: Duration,
    pub exited: bool,
    /// QEMU was asked to stop.
    pub stop: Option<Stop>,
    pub failure: Option<Failure>,
    /// QMP's reason for the shutdown.
    pub shutdown: Option<String>,
    pub fatal: Option<String>,
    pub finished: Option<(TcgStats, u64)>,
    pub stderr_tail: Tail,
}

// Tags of the event sources.
const EXIT: u32 = 0;
const TIMER: u32 = 1;
const QMP: u32 = 2;
const CONTROL: u32 = 3;
const STDERR: u32 = 4;
const INTERRUPT: u32 = 5;
const CONSOLE: u32 = 6;
const KEYS: u32 = 7;
const ROOM: u32 = 8;

impl Session {
    pub(super) fn new(
        child: &mut Child,
        qmp: UnixStream,
        control: UnixStream,
        terms: Terms,
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
        let first = terms.timeout.unwrap_or(READY);
        timer.reset(first, None).map_err(|e| os(what)(e.into()))?;
        Ok(Session {
            terms,
            pidfd,
            timer,
            qmp: Lines::new(qmp).map_err(os(what))?,
            control: Lines::new(control).map_err(os(what))?,
            stderr,
            awaiting: Awaiting::Greeting,
            qemu: String::new(),
            saved: None,
            migrated: false,
            began: false,
            resumed: Instant::now(),
            wall_time: Duration::ZERO,
            exited: false,
            stop: None,
            failure: None,
            shutdown: None,
            fatal: None,
            finished: None,
            stderr_tail: Tail::default(),
        })
    }

    /// Bytes that were typed for the guest, if that was asked for.
    pub(super) fn typed(&self) -> Option<u64> {
        self.terms.typing.as_ref().map(|typing| typing.bytes)
    }

    /// For who wants to know where the time goes.
    pub(super) fn mark(&self, what: &str) {
        log::debug!("tcg: {what} after {:?}", self.terms.started.elapsed());
    }

    /// The snapshot, if it was not made.
    pub(super) fn give_up_save(&mut self) -> Option<Save> {
        self.terms.save.take()
    }

    /// Whether QEMU reads its part of a snapshot.
    pub(super) fn is_restoring(&self) -> bool {
        matches!(
            self.awaiting,
            Awaiting::Settings(Way::In)
                | Awaiting::Migration(Way::In)
                | Awaiting::Migrated(Way::In)
        )
    }

    /// Reads what a process that has ended left in its pipes.
    pub(super) fn drain(&mut self) {
        self.read_qmp();
        self.read_control();
        while self.read_stderr() {}
        if let Some(follow) = &mut self.terms.follow {
            follow.drain();
        }
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
                self.mark("the guest has ended");
                self.wall_time = self.resumed.elapsed();
                let reason = message["data"]["reason"].as_str().unwrap_or_default();
                self.shutdown = Some(reason.to_owned());
            }
            if event == "RESUME" && self.awaiting == Awaiting::Debugger {
                self.awaiting = Awaiting::Nothing;
                self.begin();
            }
            if event == "STOP" {
                // It was told before.
                self.read_control();
                if self.saved.is_some() && self.terms.save.is_some() && self.stop.is_none() {
                    return self.set_up(Way::Out);
                }
            }
            if event == "MIGRATION" && message["data"]["status"] == "completed" {
                self.mark("QEMU has written or read its part of the snapshot");
                self.migrated = true;
                return self.go_on();
            }
            if event == "MIGRATION" && message["data"]["status"] == "failed" {
                let why = "QEMU has failed to write or read its part of it";
                self.fail(QemuError::NotTaken(why.into()).into());
            }
            return Ok(());
        }
        if let Some(error) = message.get("error") {
            return Err(format!("QMP in state {:?}: {error}", self.awaiting));
        }
        match self.awaiting {
            Awaiting::Greeting if message.get("QMP").is_some() => {
                self.mark("QEMU has greeted");
                self.qemu = version(&message["QMP"]["version"]);
                self.execute(
                    &json!({"execute": "qmp_capabilities"}),
                    Awaiting::Capabilities,
                )
            }
            Awaiting::Capabilities => match &self.terms.from {
                None => self.ask_for_gic(),
                Some(from) if *from == self.qemu => self.set_up(Way::In),
                Some(from) => {
                    let why = format!("QEMU {from} has saved it, and this is QEMU {}", self.qemu);
                    self.fail(QemuError::NotTaken(why).into());
                    Ok(())
                }
            },
            Awaiting::Settings(way) => self.migrate(way),
            Awaiting::Migration(way) => {
                self.awaiting = Awaiting::Migrated(way);
                self.go_on()
            }
            // It says that it is done a little before it is.
            Awaiting::Standing if message["return"]["status"] == "finish-migrate" => {
                self.ask_how_it_stands()
            }
            Awaiting::Standing => self.execute(&json!({"execute": "cont"}), Awaiting::Continue),
            Awaiting::Gic => {
                let gic = find_gic(&message["return"])
                    .ok_or_else(|| format!("no {GIC} below {BOARD}"))?;
                self.send_plugin(&ToPlugin::Start { gic })?;
                if self.terms.debugger {
                    self.awaiting = Awaiting::Debugger;
                    return self.unlimited();
                }
                self.begin();
                if self.terms.timeout.is_none() {
                    self.unlimited()?;
                }
                self.execute(&json!({"execute": "cont"}), Awaiting::Continue)
            }
            Awaiting::Continue | Awaiting::Quit => {
                self.awaiting = Awaiting::Nothing;
                Ok(())
            }
            Awaiting::Greeting | Awaiting::Migrated(_) | Awaiting::Debugger | Awaiting::Nothing => {
                Err(format!("unexpected QMP message: {message}"))
            }
        }
    }

    fn ask_for_gic(&mut self) -> Result<(), String> {
        let ask = json!({"execute": "qom-list", "arguments": {"path": BOARD}});
        self.execute(&ask, Awaiting::Gic)
    }

    fn ask_how_it_stands(&mut self) -> Result<(), String> {
        self.execute(&json!({"execute": "query-status"}), Awaiting::Standing)
    }

    /// Guest memory is in no snapshot of QEMU's own: it is a file already.
    fn set_up(&mut self, way: Way) -> Result<(), String> {
        let on = |name| json!({"capability": name, "state": true});
        let capabilities = json!([on("x-ignore-shared"), on("events")]);
        self.execute(
            &json!({
                "execute": "migrate-set-capabilities",
                "arguments": {"capabilities": capabilities},
            }),
            Awaiting::Settings(way),
        )
    }

    fn migrate(&mut self, way: Way) -> Result<(), String> {
        let fd = self.terms.migration.ok_or("there is no snapshot")?;
        let command = match way {
            Way::In => "migrate-incoming",
            Way::Out => "migrate",
        };
        let uri = format!("file:/proc/self/fd/{fd}");
        self.execute(
            &json!({"execute": command, "arguments": {"uri": uri}}),
            Awaiting::Migration(way),
        )
    }

    /// Goes on once QEMU has said both that it has begun and that it is done.
    fn go_on(&mut self) -> Result<(), String> {
        match self.awaiting {
            Awaiting::Migrated(Way::In) if self.migrated => self.ask_for_gic(),
            Awaiting::Migrated(Way::Out) if self.migrated => {
                let begun = Instant::now();
                if let (Some(save), Some(accesses)) = (self.terms.save.take(), self.saved)
                    && let Err(e) = save.write(self.qemu.clone(), accesses)
                {
                    self.fail(e);
                    return Ok(());
                }
                self.resumed += begun.elapsed();
                self.ask_how_it_stands()
            }
            _ => Ok(()),
        }
    }

    fn fail(&mut self, error: EngineError) {
        self.failure.get_or_insert(Failure::Own(error));
    }

    /// The guest is let go.
    fn begin(&mut self) {
        self.mark("the guest is let go");
        self.began = true;
        self.resumed = Instant::now();
    }

    /// From here on, whoever is there may take their time.
    fn unlimited(&mut self) -> Result<(), String> {
        let cleared = self.timer.clear();
        cleared.map_err(|e| format!("cannot stop the timer: {e}"))
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
                Ok(FromPlugin::Started) => self.mark("the machine runs"),
                Ok(FromPlugin::Fatal { message }) => self.fatal = Some(message),
                Ok(FromPlugin::Saved { accesses }) => self.saved = Some(accesses),
                Ok(FromPlugin::Refused { message }) => {
                    self.fail(QemuError::NotTaken(message).into());
                }
                Ok(FromPlugin::Finished { stats, restored }) => {
                    self.finished = Some((stats, restored))
                }
                Err(e) => self.protocol_error(format!("message from the plugin: {e}")),
            }
        }
    }

    /// Goes on with what was typed. A guest that has no room for it is waited for, and nothing more is read
    /// meanwhile.
    fn typing(&mut self, ops: &mut EventOps, go_on: fn(&mut Typing) -> Typed) -> Typed {
        let Some(typing) = &mut self.terms.typing else {
            return Typed::Gone;
        };
        let was_full = typing.is_full();
        let typed = go_on(typing);
        let room = Events::with_data(typing, ROOM, EventSet::OUT);
        let changed = match typed {
            Typed::Full if !was_full => ops.add(room),
            Typed::Taken if was_full => ops.add(keys()),
            _ => Ok(()),
        };
        if let Err(e) = changed {
            self.protocol_error(format!("watching the terminal: {e}"));
        }
        // One that ends by itself just now does that.
        let runs = self.stop.is_none() && self.shutdown.is_none();
        if matches!(typed, Typed::End | Typed::Leave) && runs {
            self.stop(Stop::Left);
        }
        typed
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

/// A version as QEMU's greeting has it.
fn version(greeting: &Value) -> String {
    let number = |part: &str| greeting["qemu"][part].as_u64().unwrap_or_default();
    let [major, minor, micro] = ["major", "minor", "micro"].map(number);
    let package = greeting["package"].as_str().unwrap_or_default();
    format!("{major}.{minor}.{micro} {package}")
        .trim()
        .to_owned()
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

/// The event that somebody has typed something.
fn keys() -> Events {
    Events::with_data(&rustix::stdio::stdin(), KEYS, EventSet::IN)
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
        if let Some(waker) = &self.terms.waker {
            sources.push(Events::with_data(waker, INTERRUPT, EventSet::IN));
        }
        if let Some(follow) = &self.terms.follow {
            sources.push(Events::with_data(follow, CONSOLE, EventSet::IN));
        }
        if self.terms.typing.is_some() {
            sources.push(keys());
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
            CONSOLE => {
                if let Some(follow) = &mut self.terms.follow {
                    follow.read();
                }
                true
            }
            KEYS => self.typing(ops, Typing::read) == Typed::Taken,
            ROOM => self.typing(ops, Typing::flush) == Typed::Full,
            // The end of the stream, too, is an event; anything else comes once it is there.
            _ => self.read_stderr() || !events.event_set().contains(EventSet::HANG_UP),
        };
        if !goes_on && let Err(e) = ops.remove(events) {
            self.protocol_error(format!("watching QEMU: {e}"));
        }
    }
}
