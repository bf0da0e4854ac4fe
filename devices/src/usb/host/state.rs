// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of a host that carries out a plan.

use serde::{Deserialize, Serialize};

use super::{HaltPhase, Halting, PlanHost, State as Activity};
use crate::state::{Invalid, Refused, SaveError, State, Stateful, same};
use crate::usb::Speed;
use crate::usb::bulk::{Flow, FlowState};
use crate::usb::control::ControlTransfer;
use crate::usb::descriptor::{BulkEndpoint, Configuration};
use crate::usb::enumerate::Enumerator;
use crate::usb::plan::Step;
use crate::usb::report::UsbHostReport;

/// What it is at.
#[derive(Debug, Serialize, Deserialize)]
enum ActivityState {
    Detached,
    Reset,
    Recovered,
    Enumerating(Enumerator),
    Between,
    Pausing,
    Streaming(FlowState),
    Halting(HaltingState),
    Over,
}

#[derive(Debug, Serialize, Deserialize)]
struct HaltingState {
    endpoint: BulkEndpoint,
    phase: HaltPhase,
    control: ControlTransfer,
    back: Option<FlowState>,
}

/// All but the plan, in which the step under way is the last that has begun.
#[derive(Debug, Serialize, Deserialize)]
pub struct HostState {
    report: UsbHostReport,
    activity: ActivityState,
    session: Option<u32>,
    speed: Speed,
    config: Configuration,
    begun: usize,
    held: u32,
    cut: Option<FlowState>,
}

impl State for HostState {
    const COMPONENT: &'static str = "usb-host";
    const VERSION: u16 = 2;
}

impl Activity {
    fn state(&self) -> ActivityState {
        match self {
            Activity::Detached => ActivityState::Detached,
            Activity::Reset => ActivityState::Reset,
            Activity::Recovered => ActivityState::Recovered,
            Activity::Enumerating(enumerator) => ActivityState::Enumerating(enumerator.clone()),
            Activity::Between => ActivityState::Between,
            Activity::Pausing => ActivityState::Pausing,
            Activity::Streaming(flow) => ActivityState::Streaming(flow.state()),
            Activity::Halting(halting) => ActivityState::Halting(HaltingState {
                endpoint: halting.endpoint,
                phase: halting.phase,
                control: halting.control.clone(),
                back: halting.back.as_ref().map(Flow::state),
            }),
            Activity::Over => ActivityState::Over,
        }
    }

    /// In the step under way, if there is one.
    fn from_state(state: ActivityState, step: Option<&Step>) -> Result<Self, Invalid> {
        Ok(match state {
            ActivityState::Detached => Activity::Detached,
            ActivityState::Reset => Activity::Reset,
            ActivityState::Recovered => Activity::Recovered,
            ActivityState::Enumerating(enumerator) => {
                enumerator.check()?;
                Activity::Enumerating(enumerator)
            }
            ActivityState::Between => Activity::Between,
            ActivityState::Pausing => Activity::Pausing,
            ActivityState::Streaming(flow) => Activity::Streaming(stream(step, &flow)?),
            ActivityState::Halting(halting) => {
                halting.endpoint.check()?;
                halting.control.check()?;
                let back = halting.back.map(|flow| stream(step, &flow));
                Activity::Halting(Halting {
                    endpoint: halting.endpoint,
                    phase: halting.phase,
                    control: halting.control,
                    back: back.transpose()?,
                })
            }
            ActivityState::Over => Activity::Over,
        })
    }
}

fn stream(step: Option<&Step>, state: &FlowState) -> Result<Flow, Invalid> {
    let step = step.ok_or_else(|| Invalid::new("stream", "one", "none before the first step"))?;
    Flow::from_state(step, state)
}

impl Stateful for PlanHost {
    type State = HostState;

    fn state(&self) -> Result<HostState, SaveError> {
        let PlanHost {
            plan: _,
            report,
            state,
            session,
            speed,
            config,
            begun,
            held,
            cut,
            buf: _,
        } = self;
        Ok(HostState {
            report: report.clone(),
            activity: state.state(),
            session: *session,
            speed: *speed,
            config: *config,
            begun: *begun,
            held: *held,
            cut: cut.as_ref().map(Flow::state),
        })
    }

    fn set_state(&mut self, state: HostState) -> Result<(), Refused> {
        state.config.check()?;
        state.report.check(self.plan.steps.len())?;
        same("steps begun", &state.begun, &state.report.steps.len())?;
        let last = state.begun.checked_sub(1);
        let step = last.and_then(|n| self.plan.steps.get(n));
        let cut = state.cut.map(|flow| stream(step, &flow)).transpose()?;
        self.state = Activity::from_state(state.activity, step)?;
        self.cut = cut;
        self.report = state.report;
        self.session = state.session;
        self.speed = state.speed;
        self.config = state.config;
        self.begun = state.begun;
        self.held = state.held;
        Ok(())
    }
}
