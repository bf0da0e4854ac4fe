// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Packets into and out of an endpoint's TRBs.
//!
//! A chain of TRBs (CHN set on all but the last) is one transfer descriptor: its bytes are cut
//! into packets without regard to TRB borders. Its end makes a short packet if bytes are left
//! over, and a zero-length packet if its last TRB is empty and nothing is left over.

use super::endpoint::{CHAIN_LIMIT, Endpoint, State};
use super::fault::Fault;
use super::io::Io;
use crate::dma::Access;
use crate::usb::{InResult, OutResult};

/// Packets moved in one event: a SuperSpeed burst (USB 3.2, 8.10.2), 16 KiB of bulk data.
pub(super) const BURST_PACKETS: usize = 16;

/// What the cached TRBs say about the next IN packet.
enum NextPacket {
    /// No TRB.
    Nothing,
    /// The chain goes on in TRBs that are not cached.
    Partial,
    /// A packet of so many bytes.
    Ready(usize),
}

fn whole_packets(bytes: usize, packet: usize) -> usize {
    bytes - bytes % packet
}

impl Endpoint {
    /// Sends packets until `buf` is full, a short packet has been sent, a burst is over, or
    /// nothing is left.
    pub(super) fn input(&mut self, io: &mut Io<'_, '_>, buf: &mut [u8]) -> InResult {
        let packet = self.max_packet();
        if packet == 0 {
            return InResult::Nak;
        }
        let limit = buf.len().min(packet * BURST_PACKETS);
        let mut done = 0;
        let mut passed = 0;
        while done == 0 || done < limit {
            self.fetch(io);
            if self.state != State::Active {
                break;
            }
            let straight = match self.queue.front() {
                Some(front) if self.hold.is_empty() => {
                    whole_packets(front.remaining().min(limit - done), packet)
                }
                _ => 0,
            };
            if straight > 0 {
                if !self.read(io, &mut buf[done..done + straight]) {
                    break;
                }
                done += straight;
                continue;
            }
            match self.next_packet(packet) {
                NextPacket::Nothing => break,
                NextPacket::Partial => {
                    if !self.absorb(io, &mut passed) {
                        break;
                    }
                }
                NextPacket::Ready(len) if done + len > buf.len() => {
                    if done == 0 {
                        return InResult::Overflow;
                    }
                    break;
                }
                NextPacket::Ready(len) if done + len > limit => break,
                NextPacket::Ready(len) => {
                    if !self.take_packet(io, &mut buf[done..done + len], len < packet) {
                        break;
                    }
                    done += len;
                    if len < packet {
                        return InResult::Data {
                            len: done,
                            end: true,
                        };
                    }
                }
            }
        }
        match done {
            0 => InResult::Nak,
            len => InResult::Data { len, end: false },
        }
    }

    fn next_packet(&self, packet: usize) -> NextPacket {
        let mut sum = self.hold.len();
        for entry in &self.queue {
            sum += entry.remaining();
            if sum >= packet {
                return NextPacket::Ready(packet);
            }
            if !entry.trb.chained() {
                return NextPacket::Ready(sum);
            }
        }
        if self.queue.is_empty() {
            NextPacket::Nothing
        } else {
            NextPacket::Partial
        }
    }

    /// Reads `out.len()` bytes from the front TRB, which has them, and retires it if it is then
    /// empty.
    fn read(&mut self, io: &mut Io<'_, '_>, out: &mut [u8]) -> bool {
        let Some(front) = self.queue.front_mut() else {
            return false;
        };
        let pa = front.cursor();
        if let Err(source) = io.dma.read(Access::data(front.id), pa, out) {
            self.bus_error(io, pa, source);
            return false;
        }
        front.done = front
            .done
            .saturating_add(u32::try_from(out.len()).unwrap_or(u32::MAX));
        if front.remaining() == 0 {
            self.retire(io).is_some()
        } else {
            true
        }
    }

    /// Gathers one packet from `hold` and the cached TRBs, which have it.
    fn take_packet(&mut self, io: &mut Io<'_, '_>, out: &mut [u8], ends_chain: bool) -> bool {
        let held = self.hold.len().min(out.len());
        out[..held].copy_from_slice(&self.hold[..held]);
        self.hold.drain(..held);
        let mut at = held;
        let mut chained = true;
        while at < out.len() {
            let Some(front) = self.queue.front() else {
                return false;
            };
            chained = front.trb.chained();
            let n = front.remaining().min(out.len() - at);
            if n == 0 {
                if self.retire(io).is_none() {
                    return false;
                }
                continue;
            }
            if !self.read(io, &mut out[at..at + n]) {
                return false;
            }
            at += n;
        }
        // Empty TRBs up to the end of the chain go with its last packet.
        while ends_chain && chained {
            match self.retire(io) {
                Some(trb) => chained = trb.chained(),
                None => return false,
            }
        }
        true
    }

    /// Reads the cached part of a packet, so that its TRBs can retire and the driver can add the
    /// rest of the chain. False if nothing was cached.
    fn absorb(&mut self, io: &mut Io<'_, '_>, passed: &mut u32) -> bool {
        let mut any = false;
        while let Some(front) = self.queue.front() {
            *passed += 1;
            if *passed > CHAIN_LIMIT {
                let (endpoint, pa) = (self.number, front.at);
                self.fail(io, Fault::EndlessChain { endpoint, pa });
                return false;
            }
            any = true;
            let n = front.remaining();
            if n == 0 {
                if self.retire(io).is_none() {
                    return false;
                }
                continue;
            }
            let mut hold = std::mem::take(&mut self.hold);
            let held = hold.len();
            hold.resize(held + n, 0);
            let read = self.read(io, &mut hold[held..]);
            if !read {
                return false;
            }
            self.hold = hold;
        }
        any
    }

    /// Takes packets until `data` is at its end, a burst is over, or no buffer is left.
    pub(super) fn output(&mut self, io: &mut Io<'_, '_>, data: &[u8]) -> OutResult {
        let packet = self.max_packet();
        if packet == 0 {
            return OutResult::Nak;
        }
        self.fetch(io);
        if self.state != State::Active || !self.hold.is_empty() || self.queue.is_empty() {
            return OutResult::Nak;
        }
        if data.is_empty() {
            self.place(io, data, true);
            return OutResult::Data { len: 0 };
        }
        let limit = data.len().min(packet * BURST_PACKETS);
        let mut done = 0;
        while done < limit && self.state == State::Active && self.hold.is_empty() {
            self.fetch(io);
            let Some(front) = self.queue.front() else {
                break;
            };
            let straight = whole_packets(front.remaining().min(limit - done), packet);
            if straight > 0 {
                if !self.write(io, &data[done..done + straight]) {
                    break;
                }
                done += straight;
                if self.queue.front().is_some_and(|f| f.remaining() == 0) {
                    self.retire(io);
                }
                continue;
            }
            let len = packet.min(data.len() - done);
            self.place(io, &data[done..done + len], len < packet);
            done += len;
        }
        match done {
            0 => OutResult::Nak,
            len => OutResult::Data { len },
        }
    }

    /// Writes `data` to the front TRB, which has room for it.
    fn write(&mut self, io: &mut Io<'_, '_>, data: &[u8]) -> bool {
        let Some(front) = self.queue.front_mut() else {
            return false;
        };
        let pa = front.cursor();
        if let Err(source) = io.dma.write(Access::data(front.id), pa, data) {
            self.bus_error(io, pa, source);
            return false;
        }
        front.done = front
            .done
            .saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        true
    }

    /// Scatters one packet, or the rest of one, over the TRBs of the chain. What finds no TRB
    /// waits in `hold`.
    fn place(&mut self, io: &mut Io<'_, '_>, packet: &[u8], short: bool) {
        let mut at = 0;
        for _ in 0..CHAIN_LIMIT {
            self.fetch(io);
            if self.state != State::Active {
                return;
            }
            let Some(front) = self.queue.front() else {
                self.hold.extend_from_slice(&packet[at..]);
                self.hold_short = short;
                return;
            };
            let n = front.remaining().min(packet.len() - at);
            if n > 0 && !self.write(io, &packet[at..at + n]) {
                return;
            }
            at += n;
            let Some(front) = self.queue.front() else {
                return;
            };
            if at == packet.len() {
                if short {
                    self.retire_short(io);
                } else if front.remaining() == 0 {
                    self.retire(io);
                }
                return;
            }
            if !front.trb.chained() {
                let (endpoint, pa) = (self.number, front.at);
                return self.fail(io, Fault::OutOverflow { endpoint, pa });
            }
            self.retire(io);
        }
        let (endpoint, pa) = (self.number, self.queue.front().map_or(0, |f| f.at));
        self.fail(io, Fault::EndlessChain { endpoint, pa });
    }

    /// Puts a packet that waits in `hold` into TRBs that the driver has added.
    pub(super) fn flush(&mut self, io: &mut Io<'_, '_>) {
        if self.hold.is_empty() || self.queue.is_empty() {
            return;
        }
        let held = std::mem::take(&mut self.hold);
        self.place(io, &held, self.hold_short);
    }
}
