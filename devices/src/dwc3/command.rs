// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Generic commands (DGCMD) and endpoint commands (DEPCMD). All finish within the write that
//! issues them.
//!
//! Sources: Linux drivers/usb/dwc3/core.h for the encodings, `dwc3_send_gadget_ep_cmd` and
//! `dwc3_send_gadget_generic_command` in gadget.c for what the driver expects.

use super::core::Core;
use super::endpoint::{Config, State};
use super::event::{DeviceEvent, EndpointEvent};
use super::registers::{
    CMD, CMD_ACT, CMD_IOC, CMD_PARAM_SHIFT, CMD_STATUS_SHIFT, DGCMD, PAR0, PAR1, PAR2, dep,
};
use crate::dma::DmaPort;

const SET_CONFIG: u32 = 1;
const SET_RESOURCE: u32 = 2;
const GET_STATE: u32 = 3;
const SET_STALL: u32 = 4;
const CLEAR_STALL: u32 = 5;
const START_TRANSFER: u32 = 6;
const UPDATE_TRANSFER: u32 = 7;
const END_TRANSFER: u32 = 8;
const START_NEW_CONFIG: u32 = 9;

const COMMAND: u32 = 0xf;
const STATUS: u32 = 0xf << CMD_STATUS_SHIFT;
/// End Transfer: do not write back how far the transfer got.
const FORCE_RM: u32 = 1 << 11;

/// Set Endpoint Configuration, parameter 0: what is configured (drivers/usb/dwc3/gadget.h). Other
/// actions restore or modify an endpoint, which keeps its state.
const CFG_ACTION_SHIFT: u32 = 30;
const CFG_ACTION_INIT: u32 = 0;

/// Status of a refused command; for Start Transfer: no transfer resource.
const REFUSED: u32 = 1;

impl Core {
    pub(super) fn generic_command(&mut self, value: u32, dma: &mut DmaPort<'_>) {
        // No command of this register has an effect that this model could show.
        self.regs.set(DGCMD, value & !(CMD_ACT | STATUS));
        if value & CMD_ACT != 0 && value & CMD_IOC != 0 {
            let (_, _, mut io) = self.split(dma);
            io.post_device(DeviceEvent::CommandComplete);
        }
    }

    pub(super) fn endpoint_command(&mut self, n: usize, value: u32, dma: &mut DmaPort<'_>) {
        let command = value & COMMAND;
        // Without CMDACT only Update Transfer does something: it asks for no response.
        if value & CMD_ACT == 0 && command != UPDATE_TRANSFER {
            self.regs.write(dep(n) + CMD, value);
            return;
        }
        let done = self.execute(n, command, value, dma);
        let mut answer = value & !(CMD_ACT | STATUS);
        if command == START_TRANSFER {
            answer &= (1 << CMD_PARAM_SHIFT) - 1;
            if done {
                answer |= resource_index(n) << CMD_PARAM_SHIFT;
            }
        }
        let status = if done { 0 } else { REFUSED };
        self.regs
            .set(dep(n) + CMD, answer | status << CMD_STATUS_SHIFT);
        if value & CMD_ACT != 0 && value & CMD_IOC != 0 {
            // The parameter names the command and, for Start Transfer, the resource.
            let parameter = command << 8 | answer >> CMD_PARAM_SHIFT & 0x7f;
            let (endpoints, _, mut io) = self.split(dma);
            io.post(
                endpoints[n].number,
                EndpointEvent::CommandComplete,
                if done { 0 } else { 1 },
                u16::try_from(parameter).unwrap_or_default(),
            );
        }
    }

    /// Executes a command. False if the controller refuses it.
    fn execute(&mut self, n: usize, command: u32, value: u32, dma: &mut DmaPort<'_>) -> bool {
        let par0 = self.regs.get(dep(n) + PAR0);
        let par1 = self.regs.get(dep(n) + PAR1);
        if matches!(
            command,
            SET_STALL | CLEAR_STALL | START_TRANSFER | UPDATE_TRANSFER
        ) {
            self.kick();
        }
        if command == GET_STATE {
            self.regs.set(dep(n) + PAR2, 0);
        }
        let (endpoints, control, mut io) = self.split(dma);
        let endpoint = &mut endpoints[n];
        match command {
            SET_CONFIG => {
                endpoint.config = Config::from_parameters(par0, par1);
                // An endpoint that is set up anew is not halted (USB 2.0, 9.4.5).
                if par0 >> CFG_ACTION_SHIFT == CFG_ACTION_INIT {
                    endpoint.stalled = false;
                }
                endpoint.config.is_some()
            }
            SET_RESOURCE => {
                endpoint.resource = par0 & 0xffff != 0;
                true
            }
            GET_STATE => true,
            SET_STALL if endpoint.is_control() => {
                control.stall();
                true
            }
            SET_STALL => {
                endpoint.stalled = true;
                true
            }
            CLEAR_STALL => {
                endpoint.stalled = false;
                true
            }
            START_TRANSFER => {
                let trb = u64::from(par0) << 32 | u64::from(par1);
                let started = endpoint.start(&mut io, trb);
                if started && endpoint.is_control() {
                    control.started(endpoints, &mut io);
                }
                started
            }
            UPDATE_TRANSFER if endpoint.state == State::Active => {
                endpoint.doorbell(&mut io);
                true
            }
            END_TRANSFER => {
                // Of a disabled endpoint too: the driver disables it first
                // (`__dwc3_gadget_ep_disable`).
                endpoint.end(&mut io, value & FORCE_RM != 0);
                true
            }
            START_NEW_CONFIG => {
                // XferRscIdx 0 frees all transfer resources, 2 all but those of endpoint 0.
                let first = (value >> CMD_PARAM_SHIFT & 0x7f) as usize;
                for endpoint in endpoints.iter_mut().skip(first) {
                    endpoint.resource = false;
                }
                true
            }
            _ => false,
        }
    }
}

/// The index of an endpoint's transfer resource; never 0, which the driver takes for none.
fn resource_index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or_default() + 1
}
