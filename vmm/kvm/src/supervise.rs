// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The threads of a guest that runs, from their start to their end.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps as _};
use kvm_ioctls::VcpuFd;
use rustix::time::{ClockId, clock_gettime};
use staleline_devices::cpu::CpuId;
use staleline_machine::engine::guest::Guest;
use staleline_machine::engine::wire::{Ended, Output, Run};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::{Killable as _, SIGRTMIN, register_signal_handler};
use vmm_sys_util::timerfd::TimerFd;

use crate::bus::Bus;
use crate::error::KvmError;
use crate::sandbox::{self, Thread};
use crate::sink::Sink;
use crate::snapshot::CpuState;
use crate::vcpu;

/// Signal that makes a CPU come out of the guest; above those that the C library uses.
const KICK: i32 = 0;

/// How long to wait for a thread that should end by itself, at first.
const SOON: Duration = Duration::from_micros(100);

/// How long to wait for a CPU before it is told again.
const AGAIN: Duration = Duration::from_millis(2);

/// How often a CPU is told to come out for what it has written, if nothing else makes it: at first, and at least, if
/// nothing comes of that.
const GLANCE: Duration = Duration::from_millis(50);
const RARELY: Duration = Duration::from_millis(400);

/// Most bytes of console that a guest may write before it is saved.
const CONSOLE_LIMIT: usize = 16 << 20;

/// A guest that stands still.
pub struct Still<'a> {
    /// What its CPUs hold, in no order.
    pub cpus: Vec<CpuState>,
    /// What it has written so far.
    pub console: Vec<u8>,
    /// Where output goes.
    pub sink: &'a mut dyn Sink,
}

/// Tells a CPU's thread to run it.
type Go = mpsc::Sender<()>;

/// Saves one.
type Save<'a> = dyn FnMut(Still<'_>) -> Result<(), KvmError> + 'a;

extern "C" fn kicked(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Runs the CPUs, once it is `ready`, until the guest ends or its time is up, and passes on what it writes. Once it
/// has written what the bus waits for, it stands still for `save`.
///
/// # Errors
/// [`KvmError`]: all threads have ended.
pub fn supervise<M: Guest>(
    run: &Run,
    vcpus: Vec<VcpuFd>,
    bus: &Arc<Bus<M>>,
    written: EventFd,
    sink: &mut dyn Sink,
    (ready, save): (impl FnOnce() -> Result<(), KvmError>, &mut Save<'_>),
) -> Result<Ended, KvmError> {
    let events = KvmError::os("watch the guest");
    register_signal_handler(SIGRTMIN() + KICK, kicked).map_err(|e| events(io::Error::from(e)))?;
    let over = EventFd::new(EFD_NONBLOCK).map_err(&events)?;
    let (tell, ends) = mpsc::channel();
    let mut cpus = Vec::new();
    // However far that comes: what runs is ended below.
    let started = start(vcpus, bus, (&over, &tell), &mut cpus);
    let watched = match &started {
        Ok((_, go)) => ready().and_then(|()| {
            for cpu in go {
                // One that has failed meanwhile has said so.
                let _ = cpu.send(());
            }
            watch(run, (over, written), bus, sink, (&cpus, save))
        }),
        Err(_) => Ok(false),
    };
    bus.end();
    let (time, failed) = match started {
        Ok((time, go)) => {
            // Who waits to be told to run waits no longer.
            drop(go);
            (Some(time), None)
        }
        Err(e) => (None, Some(e)),
    };
    // It has been told, and waits for nothing else.
    let mut panicked = time.is_some_and(|thread| thread.join().is_err());
    for thread in cpus {
        // Most are about to end by themselves.
        let mut again = SOON;
        while !thread.is_finished() {
            kick(&thread);
            thread::sleep(again);
            again = AGAIN.min(2 * again);
        }
        panicked |= thread.join().is_err();
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    if panicked {
        return Err(KvmError::Machine("one of its threads has panicked".into()));
    }
    let timed_out = watched?;
    let rest = bus.console();
    sink.output(Output::Console, &rest)
        .map_err(KvmError::os("pass on the console"))?;
    match ends.try_recv() {
        Ok(end) => Ok(end),
        Err(_) if timed_out => Ok(Ended::TimedOut),
        // Then the bus knows why.
        Err(_) => Ok(Ended::Died {
            what: "failure".into(),
        }),
    }
}

/// Starts the CPUs' threads, which go into `cpus`, and what keeps device time. They run their CPUs when they are told
/// to, and end if nobody is left to do that. They tell their end to `tell`; `over` is written when there is nothing
/// more to wait for.
fn start<M: Guest>(
    vcpus: Vec<VcpuFd>,
    bus: &Arc<Bus<M>>,
    (over, tell): (&EventFd, &mpsc::Sender<Ended>),
    cpus: &mut Vec<JoinHandle<()>>,
) -> Result<(JoinHandle<()>, Vec<Go>), KvmError> {
    let events = KvmError::os("watch the guest");
    let mut all = Vec::new();
    for (n, mut fd) in (0..).zip(vcpus) {
        let (bus, tell) = (Arc::clone(bus), tell.clone());
        let over = over.try_clone().map_err(&events)?;
        let (go, told) = mpsc::channel();
        all.push(go);
        let body = move || {
            let _over = Last(over);
            let confined = sandbox::confine(Thread::Cpu).map_err(KvmError::from);
            let ran = confined.and_then(|()| match told.recv() {
                Ok(()) => vcpu::run(&mut fd, CpuId(n), &bus),
                Err(mpsc::RecvError) => Ok(None),
            });
            let time = clock_gettime(ClockId::ThreadCPUTime);
            bus.ran(Duration::try_from(time).unwrap_or_default());
            match ran {
                // Whoever has ended it has said so.
                Ok(None) => {}
                Ok(Some(end)) => {
                    // Whoever listens has heard of it, or does not want to.
                    let _ = tell.send(end);
                    bus.end();
                }
                Err(e) => bus.fail(e),
            }
        };
        cpus.push(spawn(format!("cpu{n}"), body)?);
    }
    let timekeeper = Arc::clone(bus);
    let stop = over.try_clone().map_err(&events)?;
    let body = move || {
        let _stop = Last(stop);
        let confined = sandbox::confine(Thread::Time).map_err(KvmError::from);
        if let Err(e) = confined.and_then(|()| timekeeper.keep_time()) {
            timekeeper.fail(e);
        }
    };
    Ok((spawn("time".into(), body)?, all))
}

/// Says that there is nothing more to wait for when its thread comes to its end, be it by a panic.
struct Last(EventFd);

impl Drop for Last {
    fn drop(&mut self) {
        // It can only be too full to be told once more.
        let _ = self.0.write(1);
    }
}

fn kick(thread: &JoinHandle<()>) {
    // One that is not in the guest does not mind.
    let _ = thread.kill(SIGRTMIN() + KICK);
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, KvmError> {
    thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(KvmError::os("start a thread"))
}

/// What there is to see of a guest that runs.
struct Watch<'a, M> {
    over: EventFd,
    written: EventFd,
    timer: TimerFd,
    glance: TimerFd,
    /// How long until the next time.
    pause: Duration,
    cpus: &'a [JoinHandle<()>],
    bus: &'a Bus<M>,
    sink: &'a mut dyn Sink,
    /// What it has written, as long as it may be saved.
    kept: Option<Vec<u8>>,
    ended: bool,
    timed_out: bool,
    failure: Option<io::Error>,
}

impl<M: Guest> Watch<'_, M> {
    /// Passes on what the guest has written.
    fn pass_on(&mut self) -> io::Result<()> {
        let bytes = self.bus.console();
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&bytes);
            if kept.len() > CONSOLE_LIMIT {
                self.kept = None;
            }
        }
        self.sink.output(Output::Console, &bytes)
    }

    /// Waits until all CPUs stand still, and says what they hold; none if the guest ends before.
    fn halt(&mut self) -> Result<Option<Vec<CpuState>>, KvmError> {
        loop {
            if self.bus.is_over() {
                return Ok(None);
            }
            if let Some(all) = self.bus.pause.all(self.cpus.len()) {
                return Ok(Some(all));
            }
            // One may wait for room for what it writes.
            self.pass_on()
                .map_err(KvmError::os("pass on the console"))?;
            self.cpus.iter().for_each(kick);
            thread::sleep(AGAIN);
        }
    }

    /// A guest that stands still with these CPUs, and has written what has been passed on, to the last byte.
    fn still(&mut self, cpus: Vec<CpuState>) -> Result<Still<'_>, KvmError> {
        // CPUs may have written more before they came to stand.
        self.pass_on()
            .map_err(KvmError::os("pass on the console"))?;
        let console = self.kept.take().ok_or(KvmError::BadRequest(
            "the guest has written too much before it is to be saved",
        ))?;
        Ok(Still {
            cpus,
            console,
            sink: &mut *self.sink,
        })
    }
}

const OVER: u32 = 0;
const WRITTEN: u32 = 1;
const TIMER: u32 = 2;
const GLANCED: u32 = 3;

impl<M: Guest> MutEventSubscriber for Watch<'_, M> {
    fn process(&mut self, events: Events, _: &mut EventOps) {
        match events.data() {
            OVER => self.ended = true,
            TIMER => {
                self.timed_out = true;
                self.ended = true;
            }
            GLANCED => {
                // How often it should have been is no matter.
                let _ = self.glance.wait();
                self.cpus.iter().for_each(kick);
                self.pause = RARELY.min(2 * self.pause);
                if let Err(e) = self.glance.reset(self.pause, None) {
                    self.failure = Some(e.into());
                    self.ended = true;
                }
            }
            _ => {
                self.pause = GLANCE;
                if let Err(e) = self.pass_on() {
                    self.failure = Some(e);
                    self.ended = true;
                }
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let sources = [
            Events::with_data(&self.over, OVER, EventSet::IN),
            Events::with_data(&self.written, WRITTEN, EventSet::IN),
            Events::with_data(&self.timer, TIMER, EventSet::IN),
            Events::with_data(&self.glance, GLANCED, EventSet::IN),
        ];
        for source in sources {
            if let Err(e) = ops.add(source) {
                self.failure = Some(io::Error::other(format!("{e:?}")));
                self.ended = true;
            }
        }
    }
}

/// Waits for the guest's end; whether it was the time limit.
fn watch<M: Guest>(
    run: &Run,
    (over, written): (EventFd, EventFd),
    bus: &Bus<M>,
    sink: &mut dyn Sink,
    (cpus, save): (&[JoinHandle<()>], &mut Save<'_>),
) -> Result<bool, KvmError> {
    let what = "watch the guest";
    let mut timer = TimerFd::new().map_err(|e| KvmError::os(what)(io::Error::from(e)))?;
    if let Some(limit) = run.timeout_ms {
        let limit = Duration::from_millis(limit.max(1));
        let set = timer.reset(limit, None);
        set.map_err(|e| KvmError::os(what)(io::Error::from(e)))?;
    }
    let mut glance = TimerFd::new().map_err(|e| KvmError::os(what)(io::Error::from(e)))?;
    if bus.keeps() {
        let set = glance.reset(GLANCE, None);
        set.map_err(|e| KvmError::os(what)(io::Error::from(e)))?;
    }
    let mut manager = EventManager::<Watch<'_, M>>::new()
        .map_err(|e| KvmError::os(what)(io::Error::other(format!("{e:?}"))))?;
    let id = manager.add_subscriber(Watch {
        over,
        written,
        timer,
        glance,
        pause: GLANCE,
        cpus,
        bus,
        sink,
        kept: run.save.as_ref().map(|_| Vec::new()),
        ended: false,
        timed_out: false,
        failure: None,
    });
    loop {
        manager
            .run()
            .map_err(|e| KvmError::os(what)(io::Error::other(format!("{e:?}"))))?;
        let watch = manager
            .subscriber_mut(id)
            .map_err(|e| KvmError::os(what)(io::Error::other(format!("{e:?}"))))?;
        if let Some(e) = watch.failure.take() {
            return Err(KvmError::os("pass on the console")(e));
        }
        if watch.ended {
            return Ok(watch.timed_out);
        }
        if bus.pause.is_wanted()
            && let Some(cpus) = watch.halt()?
        {
            save(watch.still(cpus)?)?;
            bus.pause.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::bus::tests::{quiet, say};

    use super::*;

    impl Sink for Vec<u8> {
        fn output(&mut self, _: Output, bytes: &[u8]) -> io::Result<()> {
            self.extend_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn what_is_written_while_cpus_come_to_stand_is_saved() {
        let bus = quiet();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let mut passed_on = Vec::new();
        let mut watch = Watch {
            over: event(),
            written: event(),
            timer: TimerFd::new().unwrap(),
            glance: TimerFd::new().unwrap(),
            pause: GLANCE,
            cpus: &[],
            bus: &bus,
            sink: &mut passed_on,
            kept: Some(Vec::new()),
            ended: false,
            timed_out: false,
            failure: None,
        };
        say(&bus, b"ok 1 boot\n");
        watch.pass_on().unwrap();
        say(&bus, b"and mo");
        let still = watch.still(Vec::new()).unwrap();
        assert_eq!(still.console, b"ok 1 boot\nand mo");
        assert_eq!(passed_on, b"ok 1 boot\nand mo");
    }
}
