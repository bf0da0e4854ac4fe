// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A USB host that carries out a [`UsbHostPlan`] and checks every byte it gets.

mod state;

use serde::{Deserialize, Serialize};

use super::bulk::{BUFFER, Flow, FlowEvent};
use super::control::{ControlTransfer, Progress, Setup};
use super::descriptor::{BulkEndpoint, Configuration};
use super::enumerate::{Enumerator, EnumeratorEvent};
use super::plan::{PlanError, Step, UsbHostPlan};
use super::report::{Outcome, StepReport, UsbHostReport};
use super::{InResult, Next, OutResult, Speed, UsbHost, UsbPort};
use crate::clock::Ticks;
use crate::state::{RestoreError, SaveError, Saved, Stateful as _};

/// From attachment to the first reset, in ticks (USB 2.0, 7.1.7.3: debounce).
pub const DEBOUNCE_TICKS: Ticks = 2000;

/// From a reset to the first control transfer, in ticks (USB 2.0, 7.1.7.5: recovery).
pub const RECOVERY_TICKS: Ticks = 2000;

/// How long a reset is held for a device that is busy, in tries that are [`RECOVERY_TICKS`] apart.
const RESET_TRIES: u32 = 16;

/// STALLs of bulk endpoints in one step that the host clears before it gives the step up.
pub const MAX_STALLS: u64 = 16;

/// Standard requests to endpoints (USB 2.0, 9.4).
const GET_STATUS: u8 = 0;
const CLEAR_FEATURE: u8 = 1;
const SET_FEATURE: u8 = 3;
const TO_ENDPOINT: u8 = 0x02;
const FROM_ENDPOINT: u8 = 0x82;
const ENDPOINT_HALT: u16 = 0;

/// What the host is at.
#[derive(Debug)]
enum State {
    /// Nothing attached.
    Detached,
    /// A reset is due.
    Reset,
    /// The device is to be enumerated.
    Recovered,
    Enumerating(Enumerator),
    /// The next step is to begin.
    Between,
    Pausing,
    Streaming(Flow),
    Halting(Halting),
    /// All steps are over, or the device cannot be used until it attaches again.
    Over,
}

/// Setting or clearing an endpoint's halt feature.
#[derive(Debug)]
struct Halting {
    endpoint: BulkEndpoint,
    phase: HaltPhase,
    control: ControlTransfer,
    /// The stream to go on with.
    back: Option<Flow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum HaltPhase {
    Set,
    CheckSet,
    Probe,
    Clear,
    CheckClear,
}

impl HaltPhase {
    fn setup(self, endpoint: BulkEndpoint) -> Setup {
        let (kind, request, value, length) = match self {
            HaltPhase::Set => (TO_ENDPOINT, SET_FEATURE, ENDPOINT_HALT, 0),
            HaltPhase::Clear => (TO_ENDPOINT, CLEAR_FEATURE, ENDPOINT_HALT, 0),
            HaltPhase::CheckSet | HaltPhase::Probe | HaltPhase::CheckClear => {
                (FROM_ENDPOINT, GET_STATUS, 0, 2)
            }
        };
        Setup {
            kind,
            request,
            value,
            index: u16::from(endpoint.address),
            length,
        }
    }
}

/// The host.
#[derive(Debug)]
pub struct PlanHost {
    plan: UsbHostPlan,
    report: UsbHostReport,
    state: State,
    session: Option<u32>,
    speed: Speed,
    config: Configuration,
    /// Steps begun.
    begun: usize,
    /// Tries of a reset that the device was too busy for.
    held: u32,
    /// The stream to go on with when the device is configured again.
    cut: Option<Flow>,
    buf: Vec<u8>,
}

impl PlanHost {
    /// A host with nothing attached.
    ///
    /// # Errors
    /// The plan cannot be carried out.
    pub fn new(plan: UsbHostPlan) -> Result<Self, PlanError> {
        plan.check()?;
        Ok(PlanHost {
            plan,
            report: UsbHostReport::default(),
            state: State::Detached,
            session: None,
            speed: Speed::Super,
            config: Configuration::default(),
            begun: 0,
            held: 0,
            cut: None,
            buf: vec![0; BUFFER],
        })
    }

    /// What it has seen so far.
    pub fn report(&self) -> &UsbHostReport {
        &self.report
    }

    fn step(&mut self) -> Option<&mut StepReport> {
        self.report
            .steps
            .last_mut()
            .filter(|s| s.outcome == Outcome::Running)
    }

    fn end_step(&mut self, outcome: Outcome) {
        if let Some(step) = self.step() {
            step.outcome = outcome;
        }
    }

    /// An error that ends the step under way.
    fn fail_step(&mut self, why: &str) {
        let step = self.begun.saturating_sub(1);
        self.report.error(format!("step {step}: {why}"));
        self.end_step(Outcome::Failed);
    }

    /// The device or the link has gone without being asked to.
    fn lost(&mut self) {
        self.cut = None;
        if self.step().is_some() {
            self.fail_step("the device has gone");
        }
    }

    fn unplug(&mut self, port: &mut dyn UsbPort, ticks: Ticks) -> (State, Next) {
        port.disconnect();
        (State::Reset, Next::After(ticks))
    }

    /// Uses the port as the state wants it. Returns the next state.
    fn act(&mut self, state: State, port: &mut dyn UsbPort) -> (State, Next) {
        match state {
            State::Detached | State::Over => (state, Next::Wait),
            State::Reset if self.held < RESET_TRIES && port.busy() => {
                self.held += 1;
                (State::Reset, Next::After(RECOVERY_TICKS))
            }
            State::Reset => match port.reset(self.plan.speed) {
                Some(speed) => {
                    self.held = 0;
                    self.speed = speed;
                    (State::Recovered, Next::After(RECOVERY_TICKS))
                }
                None => (State::Detached, Next::Wait),
            },
            State::Recovered => {
                let enumerator = Enumerator::new(self.speed);
                (State::Enumerating(enumerator), Next::Continue)
            }
            State::Enumerating(enumerator) => self.enumerate(enumerator, port),
            State::Pausing => {
                self.end_step(Outcome::Complete);
                (State::Between, Next::Continue)
            }
            State::Between => self.begin(port),
            State::Streaming(flow) => self.stream(flow, port),
            State::Halting(halting) => self.halt(halting, port),
        }
    }

    fn enumerate(&mut self, mut enumerator: Enumerator, port: &mut dyn UsbPort) -> (State, Next) {
        let event = enumerator.advance(port, &mut self.report);
        match event {
            EnumeratorEvent::Moved => (State::Enumerating(enumerator), Next::Continue),
            EnumeratorEvent::Waiting => (State::Enumerating(enumerator), Next::Wait),
            EnumeratorEvent::Done => {
                let (config, facts) = enumerator.into_result();
                self.config = config;
                self.report.enumerated(facts);
                self.go_on()
            }
            EnumeratorEvent::Failed => {
                if self.cut.take().is_some() {
                    self.fail_step("the device could not be configured again");
                }
                (State::Over, Next::Wait)
            }
        }
    }

    /// The device is configured: on with the stream that was cut, or with the next step.
    fn go_on(&mut self) -> (State, Next) {
        if let Some(mut flow) = self.cut.take() {
            match flow.reconnect(&self.config) {
                Ok(()) => return (State::Streaming(flow), Next::Continue),
                Err(why) => self.fail_step(why),
            }
        }
        (State::Between, Next::Continue)
    }

    /// A reset or disconnect cuts the stream.
    fn interrupt(&mut self, mut flow: Flow) {
        let goes_on = self.report.steps.last_mut().is_some_and(|r| flow.cut(r));
        if goes_on {
            self.cut = Some(flow);
        } else {
            self.end_step(Outcome::Interrupted);
        }
    }

    fn begin(&mut self, port: &mut dyn UsbPort) -> (State, Next) {
        let Some(step) = self.plan.steps.get(self.begun).cloned() else {
            self.report.finished = true;
            return (State::Over, Next::Wait);
        };
        self.begun += 1;
        self.report.steps.push(StepReport::default());
        match Flow::new(&step, &self.config) {
            Some(Ok(flow)) => return (State::Streaming(flow), Next::Continue),
            Some(Err(why)) => {
                self.fail_step(why);
                return (State::Between, Next::Continue);
            }
            None => {}
        }
        match step {
            Step::Reset => {
                self.end_step(Outcome::Complete);
                (State::Reset, Next::Continue)
            }
            Step::Disconnect { ticks } => {
                self.end_step(Outcome::Complete);
                self.unplug(port, ticks)
            }
            Step::Pause { ticks } => (State::Pausing, Next::After(ticks)),
            Step::Halt { input } => {
                let endpoint = if input {
                    self.config.bulk_in
                } else {
                    self.config.bulk_out
                };
                match endpoint {
                    Some(endpoint) => (
                        State::Halting(Halting::new(endpoint, HaltPhase::Set, None)),
                        Next::Continue,
                    ),
                    None => {
                        self.fail_step("no bulk endpoint to halt");
                        (State::Between, Next::Continue)
                    }
                }
            }
            // Handled above.
            Step::BulkIn(_) | Step::BulkOut(_) | Step::Loopback(_) => {
                (State::Between, Next::Continue)
            }
        }
    }

    fn stream(&mut self, mut flow: Flow, port: &mut dyn UsbPort) -> (State, Next) {
        let Some(report) = self.report.steps.last_mut() else {
            return (State::Between, Next::Continue);
        };
        let event = flow.advance(port, &mut self.buf, report);
        let stalls = report.stalls;
        match event {
            FlowEvent::Moved => (State::Streaming(flow), Next::Continue),
            FlowEvent::Waiting => (State::Streaming(flow), Next::Wait),
            FlowEvent::Pause(ticks) => (State::Streaming(flow), Next::After(ticks)),
            FlowEvent::Halt(endpoint) => {
                let halting = Halting::new(endpoint, HaltPhase::Set, Some(flow));
                (State::Halting(halting), Next::Continue)
            }
            FlowEvent::Babbled(endpoint) => {
                let halting = Halting::new(endpoint, HaltPhase::Clear, Some(flow));
                (State::Halting(halting), Next::Continue)
            }
            FlowEvent::Stalled(endpoint) if stalls <= MAX_STALLS => {
                let halting = Halting::new(endpoint, HaltPhase::Clear, Some(flow));
                (State::Halting(halting), Next::Continue)
            }
            FlowEvent::Stalled(_) => {
                self.fail_step("the device keeps stalling the endpoint");
                (State::Between, Next::Continue)
            }
            FlowEvent::Reset => {
                self.interrupt(flow);
                (State::Reset, Next::Continue)
            }
            FlowEvent::Disconnect(ticks) => {
                self.interrupt(flow);
                self.unplug(port, ticks)
            }
            FlowEvent::Overflow => {
                self.fail_step("the device sent more than the transfer was for (babble)");
                (State::Between, Next::Continue)
            }
            FlowEvent::Done => {
                self.end_step(Outcome::Complete);
                (State::Between, Next::Continue)
            }
            FlowEvent::Disconnected => {
                self.lost();
                (State::Detached, Next::Wait)
            }
        }
    }

    fn halt(&mut self, mut halting: Halting, port: &mut dyn UsbPort) -> (State, Next) {
        if halting.phase == HaltPhase::Probe {
            return self.probe(halting, port);
        }
        match halting.control.advance(port) {
            Progress::Moved => (State::Halting(halting), Next::Continue),
            Progress::Waiting => (State::Halting(halting), Next::Wait),
            Progress::Disconnected => {
                self.lost();
                (State::Detached, Next::Wait)
            }
            Progress::Stalled | Progress::Overflow => {
                self.fail_step("the device refused a request to halt or release an endpoint");
                (State::Between, Next::Continue)
            }
            Progress::Done => {
                let want = match halting.phase {
                    HaltPhase::CheckSet => Some([1, 0]),
                    HaltPhase::CheckClear => Some([0, 0]),
                    HaltPhase::Set | HaltPhase::Probe | HaltPhase::Clear => None,
                };
                if want.is_some_and(|want| halting.control.data() != want) {
                    self.report
                        .error("an endpoint's status does not tell its halt feature".into());
                }
                let next = match halting.phase {
                    HaltPhase::Set => HaltPhase::CheckSet,
                    HaltPhase::CheckSet | HaltPhase::Probe => HaltPhase::Probe,
                    HaltPhase::Clear => HaltPhase::CheckClear,
                    HaltPhase::CheckClear => return self.released(halting),
                };
                (
                    State::Halting(Halting::new(halting.endpoint, next, halting.back)),
                    Next::Continue,
                )
            }
        }
    }

    /// Checks that a halted endpoint answers STALL.
    fn probe(&mut self, halting: Halting, port: &mut dyn UsbPort) -> (State, Next) {
        let endpoint = halting.endpoint;
        let number = endpoint.address & 0x0f;
        let stalled = if endpoint.address & 0x80 != 0 {
            port.transfer_in(number, &mut self.buf[..usize::from(endpoint.packet)])
                == InResult::Stall
        } else {
            port.transfer_out(number, &[]) == OutResult::Stall
        };
        if let Some(step) = self.step() {
            step.stalls += u64::from(stalled);
        }
        if !stalled {
            self.report
                .error("a halted endpoint did not answer STALL".into());
        }
        let clear = Halting::new(endpoint, HaltPhase::Clear, halting.back);
        (State::Halting(clear), Next::Continue)
    }

    fn released(&mut self, halting: Halting) -> (State, Next) {
        match halting.back {
            Some(mut flow) => {
                // The driver has cancelled what was queued.
                if let Some(report) = self.report.steps.last_mut() {
                    flow.cut(report);
                }
                (State::Streaming(flow), Next::Continue)
            }
            None => {
                self.end_step(Outcome::Complete);
                (State::Between, Next::Continue)
            }
        }
    }
}

impl Halting {
    fn new(endpoint: BulkEndpoint, phase: HaltPhase, back: Option<Flow>) -> Self {
        Halting {
            endpoint,
            phase,
            control: ControlTransfer::new(phase.setup(endpoint)),
            back,
        }
    }
}

impl UsbHost for PlanHost {
    fn report(&self) -> Option<UsbHostReport> {
        Some(PlanHost::report(self).clone())
    }

    fn save(&self) -> Result<Saved, SaveError> {
        self.save_state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.restore_state(saved)
    }

    fn run(&mut self, port: &mut dyn UsbPort) -> Next {
        let session = port.session();
        if session != self.session {
            self.lost();
            self.session = session;
            let (state, next) = match session {
                Some(_) => (State::Reset, Next::After(DEBOUNCE_TICKS)),
                None => (State::Detached, Next::Wait),
            };
            self.state = state;
            return next;
        }
        let state = std::mem::replace(&mut self.state, State::Detached);
        let (state, next) = self.act(state, port);
        self.state = state;
        next
    }
}
