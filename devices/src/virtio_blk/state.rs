// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of a block device.

use serde::{Deserialize, Serialize};

use super::queue::Queue;
use super::request::{Counts, Request};
use super::{GuestError, State as Activity, VirtioBlk};
use crate::diagnostics::LogState;
use crate::dma::Doorbell;
use crate::state::{Invalid, Refused, SaveError, Saved, State, Stateful};

/// What it is at.
#[derive(Debug, Serialize, Deserialize)]
enum ActivityState {
    Idle,
    Looking,
    Working(Request),
}

/// All but its configuration; what was written to the disk is among it.
#[derive(Debug, Serialize, Deserialize)]
pub struct BlkState {
    regs: Vec<u32>,
    disk: Saved,
    features: u64,
    queue: Option<Queue>,
    activity: ActivityState,
    idle_until: Doorbell,
    era: u32,
    counts: Counts,
    log: LogState<GuestError>,
}

impl State for BlkState {
    const COMPONENT: &'static str = "virtio-blk";
    const VERSION: u16 = 1;
}

impl Stateful for VirtioBlk {
    type State = BlkState;

    fn state(&self) -> Result<BlkState, SaveError> {
        let VirtioBlk {
            regs,
            config,
            features,
            queue,
            state,
            idle_until,
            era,
            counts,
            log,
        } = self;
        Ok(BlkState {
            regs: regs.values().to_vec(),
            disk: config.disk.save()?,
            features: *features,
            queue: *queue,
            activity: match state {
                Activity::Idle => ActivityState::Idle,
                Activity::Looking => ActivityState::Looking,
                Activity::Working(request) => ActivityState::Working(request.clone()),
            },
            idle_until: *idle_until,
            era: *era,
            counts: *counts,
            log: log.state(),
        })
    }

    fn set_state(&mut self, state: BlkState) -> Result<(), Refused> {
        if !state.queue.iter().all(Queue::is_possible) {
            let allowed = "one that a driver can set up";
            return Err(Invalid::new("queue", "another", allowed).into());
        }
        state.idle_until.check()?;
        state.counts.check()?;
        self.regs.set_values(state.regs)?;
        self.config.disk.restore(&state.disk)?;
        self.features = state.features;
        self.queue = state.queue;
        self.state = match state.activity {
            ActivityState::Idle => Activity::Idle,
            ActivityState::Looking => Activity::Looking,
            ActivityState::Working(request) => {
                request.check()?;
                Activity::Working(request)
            }
        };
        self.idle_until = state.idle_until;
        self.era = state.era;
        self.counts = state.counts;
        self.log.set_state(state.log)?;
        Ok(())
    }
}
