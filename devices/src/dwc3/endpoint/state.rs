// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of a physical endpoint.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{CACHE, Config, Endpoint, Entry, State};
use crate::dma::Doorbell;
use crate::state::{Invalid, at_most, no_longer};

/// Bytes of the largest packet that SETEPCONFIG can set.
const MAX_PACKET: usize = 0x7ff;

/// All but its number.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::dwc3) struct EndpointState {
    config: Option<Config>,
    resource: bool,
    stalled: bool,
    state: State,
    next: u64,
    may_fetch: bool,
    idle_until: Doorbell,
    queue: VecDeque<Entry>,
    skip: bool,
    skip_event: bool,
    dropped: Option<u64>,
    #[serde(with = "serde_bytes")]
    hold: Vec<u8>,
    hold_short: bool,
}

impl Entry {
    fn check(&self) -> Result<(), Invalid> {
        let len = self.trb.len();
        at_most(
            "buffer of a TRB",
            self.trb.buffer,
            u64::MAX - u64::from(len),
        )?;
        at_most("bytes moved of a TRB", self.done.into(), len.into())?;
        self.order.check()
    }
}

impl Endpoint {
    pub(in crate::dwc3) fn state(&self) -> EndpointState {
        let Endpoint {
            number: _,
            config,
            resource,
            stalled,
            state,
            next,
            may_fetch,
            idle_until,
            queue,
            skip,
            skip_event,
            dropped,
            hold,
            hold_short,
        } = self;
        EndpointState {
            config: *config,
            resource: *resource,
            stalled: *stalled,
            state: *state,
            next: *next,
            may_fetch: *may_fetch,
            idle_until: *idle_until,
            queue: queue.clone(),
            skip: *skip,
            skip_event: *skip_event,
            dropped: *dropped,
            hold: hold.clone(),
            hold_short: *hold_short,
        }
    }

    pub(in crate::dwc3) fn set_state(&mut self, state: EndpointState) -> Result<(), Invalid> {
        if let Some(config) = state.config {
            let packet = config.max_packet.wrapping_sub(1);
            no_longer("bytes of a packet", packet, MAX_PACKET - 1)?;
        }
        state.idle_until.check()?;
        no_longer("TRBs fetched", state.queue.len(), CACHE)?;
        state.queue.iter().try_for_each(Entry::check)?;
        no_longer("bytes held", state.hold.len(), MAX_PACKET)?;
        self.config = state.config;
        self.resource = state.resource;
        self.stalled = state.stalled;
        self.state = state.state;
        self.next = state.next;
        self.may_fetch = state.may_fetch;
        self.idle_until = state.idle_until;
        self.queue = state.queue;
        self.skip = state.skip;
        self.skip_event = state.skip_event;
        self.dropped = state.dropped;
        self.hold = state.hold;
        self.hold_short = state.hold_short;
        Ok(())
    }
}
