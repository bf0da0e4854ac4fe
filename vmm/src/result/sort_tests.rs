// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use staleline_devices::coherency::hazard::{Actor, Hazard};
use staleline_devices::coherency::report::MaintenanceOp;
use staleline_devices::cpu::{ChainId, CpuId, SiteId};
use staleline_devices::dma::{Direction, TransferId};

use super::super::RunResult;
use super::super::facts_tests::run;
use crate::engine::chains::Chain;
use crate::evidence::Execution;
use crate::run::fake::stale_read;

/// Memory that is no DMABUF.
const ELSEWHERE: u64 = 0x4800_0000;

fn elsewhere(id: u32) -> Hazard {
    Hazard {
        first_pa: ELSEWHERE,
        line_pa: ELSEWHERE,
        end_pa: ELSEWHERE + 64,
        lines: 1,
        ..read_by(id, &[1])
    }
}

/// The kernel reads what a transfer wrote, at these sites.
fn read_by(id: u32, sites: &[u32]) -> Hazard {
    Hazard {
        reader: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(sites[0]),
        },
        readers: sites.iter().map(|site| SiteId(*site)).collect(),
        ..stale_read(id, true)
    }
}

fn with(hazards: Vec<Hazard>, change: fn(&mut Execution)) -> RunResult {
    let (result, _) = run(move |e| {
        change(e);
        let domain = &mut e.report.as_mut().unwrap().domain;
        domain.hazards.clone_from(&hazards);
    });
    result
}

fn findings(result: &RunResult) -> Vec<u64> {
    result.diagnostics.iter().map(|d| d.findings).collect()
}

#[test]
fn a_dmabuf_and_other_memory_of_a_device_are_told_apart() {
    let all = vec![read_by(1, &[1]), elsewhere(2), read_by(3, &[1])];
    let result = with(all, |_| {});
    assert_eq!(findings(&result), [2, 1]);
    let [dmabuf, other] = &result.diagnostics[..] else {
        panic!("{:?}", result.diagnostics);
    };
    assert_eq!((dmabuf.buffers.len(), other.buffers.len()), (1, 0));
    assert!(dmabuf.help.contains("dma_buf_begin_cpu_access"));
    assert!(other.help.contains("dma_unmap"));
    assert!(dmabuf.end_pa.0 < ELSEWHERE, "each has its own memory");
}

#[test]
fn channels_of_a_device_are_told_apart_and_descriptors_from_data() {
    let control = Hazard {
        transfer: TransferId::CONTROL,
        ..elsewhere(4)
    };
    let all = vec![elsewhere(1), elsewhere(2), elsewhere(3), control];
    let result = with(all, |e| {
        let transfers = &mut e.report.as_mut().unwrap().domain.transfers;
        transfers[1].transfer.channel = 2;
        transfers[2].transfer.direction = Direction::FromMemory;
    });
    assert_eq!(findings(&result), [1, 1, 1, 1]);
    // On one channel it is one, whatever reads.
    let by_another = Hazard {
        readers: vec![SiteId(2)],
        ..elsewhere(2)
    };
    let result = with(vec![elsewhere(1), by_another], |_| {});
    assert_eq!(findings(&result), [2]);
}

#[test]
fn functions_that_touch_a_dmabuf_are_told_apart_unless_one_transfer_meets_both() {
    let apart = vec![read_by(1, &[1]), read_by(2, &[2]), read_by(3, &[1])];
    assert_eq!(findings(&with(apart, |_| {})), [2, 1]);
    let met = vec![read_by(1, &[1]), read_by(2, &[2]), read_by(3, &[2, 1])];
    assert_eq!(findings(&with(met, |_| {})), [3]);
    // User space is told what to do as a whole.
    let user = |id, site| read_by(id, &[site | SiteId::USER]);
    assert_eq!(findings(&with(vec![user(1, 1), user(2, 2)], |_| {})), [2]);
}

#[test]
fn a_call_in_time_that_only_cleans_is_no_missing_call() {
    let called = |from: &'static [u64], at, id| {
        let (result, _) = run(move |e| {
            e.seen.chains.push(Chain {
                callers: from.to_vec(),
                ..Chain::default()
            });
            let chain = ChainId(u32::try_from(e.seen.chains.len()).unwrap());
            let mut hazard = elsewhere(id);
            let last = hazard.last_maintenance.as_mut().unwrap();
            (last.chain, last.at) = (chain, at);
            let last = *last;
            let domain = &mut e.report.as_mut().unwrap().domain;
            domain.maintenance.operations = vec![MaintenanceOp {
                cpu: last.cpu,
                number: last.operation,
                op: last.op,
                site: last.site,
                chain: last.chain,
                first_pa: ELSEWHERE,
                lines: 1,
                pieces: Vec::new(),
                cleaned: 1,
                invalidated: 0,
                completed_by: 0,
                dma_lines: 1,
                needed_lines: 0,
                needed_at: Vec::new(),
                at: last.at,
                dropped: false,
            }];
            domain.hazards.push(hazard);
        });
        let [diagnostic] = &result.diagnostics[..] else {
            panic!("{:?}", result.diagnostics);
        };
        (diagnostic.advice.clone(), diagnostic.help.clone())
    };
    // dma_direct_sync_sg_for_cpu() and copy_page() in the map of the fake kernel.
    const FOR_CPU: &[u64] = &[0xffff_8000_8001_5010, 0xffff_8000_8001_3010];
    const OTHER: &[u64] = &[0xffff_8000_8001_3010];
    let (row, help) = called(FOR_CPU, 1600, 1);
    assert_eq!(row, "only-cleaned");
    assert!(help.starts_with("let dcache_inval_poc(),"), "{help}");
    assert!(help.contains("dma_direct_sync_sg_for_cpu()"), "{help}");
    // While the transfer was in flight, or by another call.
    for (from, at) in [(FOR_CPU, 1499), (FOR_CPU, 1701), (OTHER, 1600)] {
        let (row, help) = called(from, at, 1);
        assert_eq!(row, "kind");
        assert!(help.starts_with("call dma_sync_*_for_cpu()"), "{help}");
    }
}
