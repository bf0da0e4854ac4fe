// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of a stream under way.

use serde::{Deserialize, Serialize};

use super::Flow;
use crate::state::{Invalid, no_longer, times};
use crate::usb::descriptor::{BulkEndpoint, Configuration};
use crate::usb::frames::FramesState;
use crate::usb::plan::Step;

/// All but what the plan says of the stream. The host's buffer is filled again.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::usb) struct FlowState {
    bulk_in: BulkEndpoint,
    bulk_out: BulkEndpoint,
    frames: FramesState,
    ahead: u64,
    index: usize,
    input: bool,
    size: u64,
    left: u64,
    zero_due: bool,
    incidents: usize,
    begun: u32,
    faults: usize,
}

impl Flow {
    pub(in crate::usb) fn state(&self) -> FlowState {
        let Flow {
            kind: _,
            stream: _,
            pattern: _,
            bulk_in,
            bulk_out,
            frames,
            ahead,
            index,
            input,
            size,
            left,
            zero_due,
            incidents,
            begun,
            faults,
            filled: _,
        } = self;
        FlowState {
            bulk_in: *bulk_in,
            bulk_out: *bulk_out,
            frames: frames.state(),
            ahead: *ahead,
            index: *index,
            input: *input,
            size: *size,
            left: *left,
            zero_due: *zero_due,
            incidents: *incidents,
            begun: *begun,
            faults: *faults,
        }
    }

    /// The stream of `step`, as far as `state` says.
    pub(in crate::usb) fn from_state(step: &Step, state: &FlowState) -> Result<Self, Invalid> {
        let endpoints = Configuration {
            bulk_in: Some(state.bulk_in),
            bulk_out: Some(state.bulk_out),
            ..Configuration::default()
        };
        endpoints.check()?;
        let Some(Ok(mut flow)) = Flow::new(step, &endpoints) else {
            return Err(Invalid::new("stream", "one", "none in this step"));
        };
        times("bytes ahead", &[state.ahead])?;
        times("transfers begun", &[state.index as u64])?;
        times("bytes of a transfer", &[state.size, state.left])?;
        no_longer("incidents", state.incidents, flow.stream.incidents.len())?;
        no_longer("faults", state.faults, flow.stream.faults.len())?;
        flow.bulk_in = state.bulk_in;
        flow.bulk_out = state.bulk_out;
        flow.frames.set_state(&state.frames)?;
        flow.ahead = state.ahead;
        flow.index = state.index;
        flow.input = state.input;
        flow.size = state.size;
        flow.left = state.left;
        flow.zero_due = state.zero_due;
        flow.incidents = state.incidents;
        flow.begun = state.begun;
        flow.faults = state.faults;
        Ok(flow)
    }
}
