// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Request queues of bulk endpoints, as in gadget.c.

use super::*;

const HWO: u32 = 1;
const CHN: u32 = 1 << 2;
const CSP: u32 = 1 << 3;
const IOC: u32 = 1 << 11;
const NORMAL: u32 = 1 << 4;
const LINK: u32 = 8 << 4;
const LAST: u8 = 255;

const ECONNRESET: i32 = 104;
const ESHUTDOWN: i32 = 108;
const EPIPE: i32 = 32;

fn pool(n: usize) -> u64 {
    POOLS + n as u64 * 0x1000
}

fn slot(n: usize, index: u8) -> u64 {
    pool(n) + u64::from(index) * 16
}

fn next(index: u8) -> u8 {
    match index.wrapping_add(1) {
        LAST => 0,
        next => next,
    }
}

impl Driver {
    /// usb_ep_enable of a bulk endpoint at the speed's packet size.
    pub(in crate::dwc3) fn ep_enable(&mut self, n: usize) {
        assert!(!self.eps[n].enabled, "already enabled");
        self.eps[n].max_packet = u32::from(self.speed.bulk_packet());
        self.ep_config(n, 2, 0);
        self.ep_enable_common(n);
        for word in 0..4 * 256 {
            self.bench.memory.put(pool(n) + 4 * word, &[0; 4]);
        }
        self.put_trb(slot(n, LAST), pool(n), 0, LINK | HWO);
        self.start_transfer(n, pool(n));
    }

    /// usb_ep_disable: `__dwc3_gadget_ep_disable`.
    pub(in crate::dwc3) fn ep_disable(&mut self, n: usize) {
        if self.eps[n].stalled {
            self.clear_halt(n);
        }
        self.modify(DALEPENA, 1 << n, 0);
        self.end_transfer(n, false);
        let ep = std::mem::take(&mut self.eps[n]);
        self.eps[n].resource_allocated = ep.resource_allocated;
        let cancelled = ep.cancelled.into_iter().map(|(request, _)| request);
        for request in ep.active.into_iter().chain(ep.pending).chain(cancelled) {
            self.give_back(n, &request, Err(ESHUTDOWN));
        }
    }

    pub(super) fn disable_function(&mut self) {
        let mut any = false;
        for n in 2..ENDPOINTS {
            if self.eps[n].enabled {
                self.ep_disable(n);
                any = true;
            }
        }
        if any {
            self.notices.push_back(Notice::Disabled);
        }
    }

    pub(super) fn end_transfer(&mut self, n: usize, interrupt: bool) {
        if !self.eps[n].started || self.eps[n].end_pending {
            return;
        }
        let index = self.eps[n].resource_index;
        let ioc = if interrupt { CMD_IOC } else { 0 };
        self.command(n, 8 | ioc | index << 16, [0; 3]);
        self.eps[n].resource_index = 0;
        if interrupt {
            self.eps[n].end_pending = true;
        } else {
            self.eps[n].started = false;
        }
    }

    pub(super) fn give_back(&mut self, n: usize, request: &Request, result: Result<u32, i32>) {
        self.notices.push_back(Notice::Complete {
            endpoint: n,
            tag: request.tag,
            result,
            pieces: request.pieces.clone(),
        });
    }

    /// usb_ep_queue. False: -ESHUTDOWN.
    pub(in crate::dwc3) fn queue(&mut self, n: usize, request: Request) -> bool {
        if !self.connected || !self.eps[n].enabled {
            return false;
        }
        let ep = &mut self.eps[n];
        ep.pending.push_back(request);
        if ep.end_pending || ep.stalled {
            ep.delay_start = true;
        } else {
            self.kick_transfer(n);
        }
        true
    }

    /// usb_ep_dequeue of a started request: cancels all started ones.
    pub(in crate::dwc3) fn dequeue(&mut self, n: usize) {
        self.end_transfer(n, true);
        let active = std::mem::take(&mut self.eps[n].active);
        let cancelled = active.into_iter().map(|r| (r, ECONNRESET));
        self.eps[n].cancelled.extend(cancelled);
    }

    pub(in crate::dwc3) fn set_halt(&mut self, n: usize) {
        self.command(n, 4, [0; 3]);
        self.eps[n].stalled = true;
    }

    /// `__dwc3_gadget_ep_set_halt(dep, 0, …)`. True if End Transfer is under way.
    pub(in crate::dwc3) fn clear_halt(&mut self, n: usize) -> bool {
        self.end_transfer(n, true);
        let active = std::mem::take(&mut self.eps[n].active);
        let cancelled = active.into_iter().map(|r| (r, EPIPE));
        self.eps[n].cancelled.extend(cancelled);
        if self.eps[n].end_pending {
            self.eps[n].clear_stall = true;
            return true;
        }
        self.cleanup_cancelled(n);
        self.command(n, 5, [0; 3]);
        self.eps[n].stalled = false;
        if std::mem::take(&mut self.eps[n].delay_start) {
            self.kick_transfer(n);
        }
        false
    }

    pub(super) fn is_stalled(&self, n: usize) -> bool {
        self.eps[n].stalled
    }

    fn cleanup_cancelled(&mut self, n: usize) {
        while let Some((request, errno)) = self.eps[n].cancelled.pop_front() {
            for _ in 0..request.trbs {
                let at = slot(n, self.eps[n].dequeue);
                self.clear_hwo(at);
                self.eps[n].dequeue = next(self.eps[n].dequeue);
            }
            self.give_back(n, &request, Err(errno));
        }
    }

    fn clear_hwo(&mut self, at: u64) {
        let control = self.bench.memory.u32(at + 12) & !HWO;
        self.bench.memory.put(at + 12, &control.to_le_bytes());
    }

    pub(super) fn command_complete(&mut self, n: usize, command: u32) {
        if command != 8 {
            return;
        }
        self.eps[n].end_pending = false;
        self.eps[n].started = false;
        self.cleanup_cancelled(n);
        if std::mem::take(&mut self.eps[n].clear_stall) {
            self.command(n, 5, [0; 3]);
            self.eps[n].stalled = false;
            self.send_delayed_status();
        }
        if std::mem::take(&mut self.eps[n].delay_start) {
            self.kick_transfer(n);
        }
    }

    fn trbs_left(&self, n: usize) -> u32 {
        let ep = &self.eps[n];
        if ep.enqueue == ep.dequeue {
            let busy = ep.active.front().is_some_and(|r| r.trbs > 0);
            return if busy { 0 } else { 255 };
        }
        let mut left = ep.dequeue.wrapping_sub(ep.enqueue);
        if ep.dequeue < ep.enqueue {
            left -= 1;
        }
        u32::from(left)
    }

    fn needs_extra(&self, n: usize, request: &Request) -> bool {
        let rest = request.length % self.eps[n].max_packet;
        request.length > 0 && request.zero && rest == 0 || n & 1 == 0 && rest != 0
    }

    fn prepare_one(
        &mut self,
        n: usize,
        request: &mut Request,
        (pa, length): (u64, u32),
        chain: bool,
        must_interrupt: bool,
    ) {
        let at = slot(n, self.eps[n].enqueue);
        request.trb.get_or_insert(at);
        request.trbs += 1;
        let mut control = NORMAL;
        if n & 1 == 0 {
            control |= CSP;
        }
        if !request.no_interrupt && !chain || must_interrupt {
            control |= IOC;
        }
        if chain {
            control |= CHN;
        }
        assert_eq!(self.bench.memory.u32(at + 12) & HWO, 0, "TRB still in use");
        self.put_trb(at, pa, length, control | HWO);
        self.eps[n].enqueue = next(self.eps[n].enqueue);
    }

    fn prepare_last(&mut self, n: usize, request: &mut Request, piece: (u64, u32)) -> bool {
        let extra = self.needs_extra(n, request);
        if self.trbs_left(n) < 1 + u32::from(extra) {
            return false;
        }
        request.extra = extra;
        let input = n & 1 == 1;
        if input || request.length > 0 {
            self.prepare_one(n, request, piece, extra, false);
        }
        if !input && request.length == 0 || extra {
            let packet = self.eps[n].max_packet;
            let rest = if input {
                0
            } else {
                packet - request.length % packet
            };
            self.prepare_one(n, request, (BOUNCE, rest), false, false);
        }
        true
    }

    fn prepare_sg(&mut self, n: usize, request: &mut Request, first_in_line: bool) {
        while request.pending_sgs > 0 {
            let left = self.trbs_left(n);
            if left == 0 {
                return;
            }
            let index = request.first_sg;
            let piece = request.pieces[index];
            if request.pending_sgs == 1 {
                if !self.prepare_last(n, request, piece) {
                    return;
                }
                request.queued_sgs += 1;
                request.pending_sgs = 0;
                return;
            }
            let tight =
                left == 1 || self.needs_extra(n, request) && left <= 2 && request.pending_sgs == 2;
            let must_interrupt = tight && first_in_line;
            self.prepare_one(n, request, piece, true, must_interrupt);
            request.first_sg += 1;
            request.queued_sgs += 1;
            request.pending_sgs -= 1;
            if must_interrupt {
                return;
            }
        }
    }

    /// dwc3_prepare_trbs. True if there are new TRBs.
    fn prepare(&mut self, n: usize) -> bool {
        let before: u32 = self.eps[n].active.iter().map(|r| r.trbs).sum();
        let mut active = std::mem::take(&mut self.eps[n].active);
        let mut blocked = false;
        for index in 0..active.len() {
            if active[index].pending_sgs > 0 {
                // trbs_left looks at the first started request.
                let mut request = active[index].clone();
                self.eps[n].active = active;
                let alone = self.eps[n].active.len() == 1;
                self.prepare_sg(n, &mut request, alone);
                active = std::mem::take(&mut self.eps[n].active);
                blocked = request.pending_sgs > 0;
                active[index] = request;
            }
        }
        self.eps[n].active = active;
        while !blocked && self.trbs_left(n) > 0 {
            let Some(mut request) = self.eps[n].pending.pop_front() else {
                break;
            };
            let fits = if request.sg {
                request.pending_sgs = request.pieces.len();
                let alone = self.eps[n].active.is_empty();
                self.prepare_sg(n, &mut request, alone);
                blocked = request.pending_sgs > 0;
                request.trbs > 0
            } else {
                let piece = request.pieces[0];
                self.prepare_last(n, &mut request, piece)
            };
            if !fits {
                self.eps[n].pending.push_front(request);
                break;
            }
            self.eps[n].active.push_back(request);
        }
        before != self.eps[n].active.iter().map(|r| r.trbs).sum::<u32>()
    }

    fn kick_transfer(&mut self, n: usize) {
        let new = self.prepare(n);
        if self.eps[n].started {
            if new {
                let index = self.eps[n].resource_index;
                self.write(dep(n) + CMD, 7 | index << 16);
            }
        } else if let Some(trb) = self.eps[n].active.front().and_then(|r| r.trb) {
            self.start_transfer(n, trb);
        }
    }

    /// dwc3_gadget_ep_reclaim_completed_trb. True if the event is used up.
    fn reclaim(&mut self, n: usize, request: &mut Request, status: u32, chain: bool) -> bool {
        let at = slot(n, self.eps[n].dequeue);
        self.eps[n].dequeue = next(self.eps[n].dequeue);
        request.trbs -= 1;
        let [low, high, size, control] = self.trb(at);
        if chain && control & HWO != 0 {
            self.clear_hwo(at);
        }
        if u64::from(low) | u64::from(high) << 32 == BOUNCE {
            self.clear_hwo(at);
            return true;
        }
        request.remaining += size & 0xff_ffff;
        if self.bench.memory.u32(at + 12) & HWO != 0 {
            return true;
        }
        status & 2 != 0 && !chain || control & IOC != 0
    }

    pub(super) fn transfer_in_progress(&mut self, n: usize, status: u32) {
        assert_eq!(status & 8, 0, "missed isochronous: -EXDEV");
        let errno = if status & 1 != 0 {
            Some(ECONNRESET)
        } else {
            None
        };
        while let Some(mut request) = self.eps[n].active.pop_front() {
            let mut stop = false;
            if request.sg {
                for _ in 0..request.queued_sgs {
                    request.queued_sgs -= 1;
                    stop = self.reclaim(n, &mut request, status, true);
                    if stop {
                        break;
                    }
                }
            } else {
                stop = self.reclaim(n, &mut request, status, false);
            }
            if request.pending_sgs > 0 || request.queued_sgs > 0 {
                self.eps[n].active.push_front(request);
                break;
            }
            if request.extra {
                stop = self.reclaim(n, &mut request, status, false);
            }
            assert_eq!(request.trbs, 0, "request given back with TRBs left");
            let actual = request.length - request.remaining;
            self.give_back(n, &request, errno.map_or(Ok(actual), Err));
            if stop {
                break;
            }
        }
        if self.eps[n].enabled && !self.eps[n].end_pending {
            let more = !self.eps[n].pending.is_empty()
                || self.eps[n]
                    .active
                    .front()
                    .is_some_and(|r| r.pending_sgs > 0);
            if more {
                self.kick_transfer(n);
            }
        }
    }
}
