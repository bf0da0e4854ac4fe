// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Fences that signal before what a device wrote is visible.

use proptest::prelude::*;

use super::rig::{self, BASE};
use crate::coherency::fences::MAX_OPEN;
use crate::coherency::hazard::{Hazard, HazardKind};
use crate::coherency::{Domain, Policy, SnoopWrite};
use crate::cpu::{BufferCall, CacheOp, Called, ChainId, CpuId, LINE, MemoryType, SiteId};
use crate::dma::{Access, Direction, DmaMemory, MasterId, Order, Transfer, TransferId};
use crate::state::Stateful;

const BLIND: MasterId = MasterId(1);
const ATTACHMENT: u64 = 0xffff_0000_0000_1000;
const FENCE: u64 = 0xffff_0000_0000_2000;
const TASK: u64 = 0xffff_0000_0000_3000;
const INTERRUPTED: u64 = TASK + 1;

fn domain() -> Domain {
    rig::domain(&rig::config(8192, Policy::Lazy, SnoopWrite::WriteThrough))
}

fn call(d: &mut Domain, call: BufferCall, object: u64, task: u64) {
    d.called(Called {
        cpu: CpuId::BOOT,
        call,
        object,
        task,
        chain: ChainId(call as u32 + 1),
    });
}

/// The device's transfer of one line, all of it.
fn transfer(d: &mut Domain) {
    let transfer = Transfer {
        direction: Direction::ToMemory,
        pa: BASE,
        len: LINE,
        descriptor: 0,
        bus: None,
        scattered: false,
        channel: 0,
        snoop: true,
    };
    let id = d.transfer_open(BLIND, transfer, Order::Unprompted);
    d.dma_write(BLIND, Access::data(id), BASE, &[7; LINE as usize])
        .unwrap();
    d.transfer_close(BLIND, id);
}

/// `dma_buf_end_access()`, in whatever the interrupt has interrupted.
fn end(d: &mut Domain, op: CacheOp) {
    call(d, BufferCall::EndAccess, ATTACHMENT, INTERRUPTED);
    d.maintains_for(CpuId::BOOT, ATTACHMENT);
    d.maintain(CpuId::BOOT, op, BASE, SiteId(3), ChainId(9));
}

/// The line is cached, the access begins, and it has a fence.
fn begin(d: &mut Domain) {
    d.load(CpuId::BOOT, BASE, 8, SiteId(2), MemoryType::Cacheable);
    call(d, BufferCall::BeginAccess, ATTACHMENT, TASK);
    call(d, BufferCall::AddFence, FENCE, TASK);
}

fn found(d: &Domain) -> Vec<Hazard> {
    d.report().hazards
}

#[test]
fn an_access_that_ends_after_its_fence_is_found_and_no_other() {
    let mut d = domain();
    begin(&mut d);
    transfer(&mut d);
    end(&mut d, CacheOp::Invalidate);
    call(&mut d, BufferCall::Signal, FENCE, INTERRUPTED);
    assert_eq!(found(&d), []);

    // The next one on the same attachment.
    begin(&mut d);
    transfer(&mut d);
    call(&mut d, BufferCall::Signal, FENCE, INTERRUPTED);
    end(&mut d, CacheOp::Invalidate);
    let hazards = found(&d);
    let [h] = &hazards[..] else {
        panic!("{hazards:?}");
    };
    assert_eq!((h.kind, h.lines), (HazardKind::SignalledEarly, 1));
    assert_eq!((h.transfer, h.master), (TransferId(2), BLIND));
    assert!(!h.manifested);
    let signal = h.signalled.unwrap();
    assert_eq!(signal.chain, ChainId(BufferCall::Signal as u32 + 1));
    assert_eq!(h.last_invalidate.unwrap().chain, ChainId(9));
}

#[test]
fn what_needed_nothing_is_no_finding() {
    // Nothing was written, or it was made visible by another before.
    for before in [false, true] {
        let mut d = domain();
        begin(&mut d);
        if before {
            transfer(&mut d);
            d.maintain(
                CpuId::BOOT,
                CacheOp::Invalidate,
                BASE,
                SiteId(3),
                ChainId(0),
            );
            d.load(CpuId::BOOT, BASE, 8, SiteId(2), MemoryType::Cacheable);
        }
        call(&mut d, BufferCall::Signal, FENCE, TASK);
        end(&mut d, CacheOp::Invalidate);
        assert_eq!(found(&d), []);
    }
    // A transfer that has begun since.
    let mut d = domain();
    begin(&mut d);
    call(&mut d, BufferCall::Signal, FENCE, TASK);
    d.load(CpuId::BOOT, BASE, 8, SiteId(2), MemoryType::Cacheable);
    transfer(&mut d);
    end(&mut d, CacheOp::Invalidate);
    assert_eq!(found(&d), []);
}

#[test]
fn maintenance_that_is_not_for_the_access_is_not_judged() {
    let mut d = domain();
    begin(&mut d);
    transfer(&mut d);
    call(&mut d, BufferCall::Signal, FENCE, TASK);
    // SYNC, say, before the access is ended.
    d.maintain(
        CpuId::BOOT,
        CacheOp::Invalidate,
        BASE,
        SiteId(3),
        ChainId(0),
    );
    assert_eq!(found(&d), []);
}

#[test]
fn a_fence_that_is_added_before_the_access_begins_is_its_own() {
    let mut d = domain();
    d.load(CpuId::BOOT, BASE, 8, SiteId(2), MemoryType::Cacheable);
    call(&mut d, BufferCall::AddFence, FENCE, TASK);
    call(&mut d, BufferCall::BeginAccess, ATTACHMENT, TASK);
    transfer(&mut d);
    call(&mut d, BufferCall::Signal, FENCE, TASK);
    end(&mut d, CacheOp::Invalidate);
    assert_eq!(found(&d).len(), 1);

    // Unless it was another's, which has no access: then a later one replaces it.
    let mut d = domain();
    d.load(CpuId::BOOT, BASE, 8, SiteId(2), MemoryType::Cacheable);
    call(&mut d, BufferCall::AddFence, FENCE + 1, TASK);
    call(&mut d, BufferCall::BeginAccess, ATTACHMENT, TASK);
    call(&mut d, BufferCall::AddFence, FENCE, TASK);
    transfer(&mut d);
    call(&mut d, BufferCall::Signal, FENCE + 1, TASK);
    end(&mut d, CacheOp::Invalidate);
    assert_eq!(found(&d), []);
}

#[test]
fn importers_that_never_end_cost_no_judgement_of_others() {
    let mut d = domain();
    for n in 0..3 * MAX_OPEN as u64 {
        call(&mut d, BufferCall::BeginAccess, n, TASK);
        call(&mut d, BufferCall::AddFence, n + 1, TASK);
        call(&mut d, BufferCall::Signal, n + 1, TASK);
    }
    begin(&mut d);
    transfer(&mut d);
    call(&mut d, BufferCall::Signal, FENCE, TASK);
    end(&mut d, CacheOp::Invalidate);
    assert_eq!(found(&d).len(), 1);
    assert_eq!(d.report().saturated, []);
    // One that may have been forgotten is told.
    call(&mut d, BufferCall::EndAccess, 1, TASK);
    let saturated = d.report().saturated;
    assert_eq!(saturated[0].limit, MAX_OPEN as u64);
}

#[test]
fn a_state_in_between_goes_on_alike() {
    let mut d = domain();
    begin(&mut d);
    transfer(&mut d);
    call(&mut d, BufferCall::Signal, FENCE, TASK);
    let saved = d.save_state().unwrap();
    let mut other = domain();
    rig::poke(&other, 0, &rig::ram(&d, 0, 8192));
    other.restore_state(&saved).unwrap();
    for d in [&mut d, &mut other] {
        end(d, CacheOp::Invalidate);
    }
    assert_eq!(found(&d).len(), 1);
    assert_eq!(found(&d), found(&other));
}

proptest! {
    /// Whatever a guest calls, and however often.
    #[test]
    fn no_call_panics(calls in proptest::collection::vec((0u8..4, 0u64..6, 0u64..3), 0..200)) {
        let mut d = domain();
        for (n, object, task) in calls {
            let all = [
                BufferCall::BeginAccess,
                BufferCall::EndAccess,
                BufferCall::AddFence,
                BufferCall::Signal,
            ];
            call(&mut d, all[usize::from(n)], object, task);
            d.maintains_for(CpuId(task as u8), object);
            d.maintain(CpuId(task as u8), CacheOp::Invalidate, BASE, SiteId(3), ChainId(0));
        }
        // Nothing of a device's is in memory.
        prop_assert_eq!(d.report().hazards.len(), 0);
        let saved = d.save_state().unwrap();
        prop_assert!(domain().restore_state(&saved).is_ok());
    }
}
