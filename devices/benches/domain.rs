// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the domain costs: time per access of the CPU, and DMA throughput beside a plain memcpy of
//! the same size.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use staleline_devices::coherency::{Domain, DomainConfig, LINE, Policy, PowerOn, SnoopWrite};
use staleline_devices::cpu::{Barrier, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use staleline_devices::dma::{
    Access, Direction, DmaMemory, MasterId, Order, Port, Transfer, TransferId,
};
use vm_memory::MmapRegion;

const BASE: u64 = 0x4000_0000;
const RAM: u64 = 16 << 20;
const SNOOPING: MasterId = MasterId(0);
const BLIND: MasterId = MasterId(1);

/// Bytes per DMA access, and the region that accesses rotate through: as a ring of buffers does.
const PAGE: u64 = 4096;
const RING: u64 = 1 << 20;

fn domain(policy: Policy) -> Domain {
    let config = DomainConfig {
        base: BASE,
        ram_bytes: RAM,
        policy,
        snoop_write: SnoopWrite::WriteThrough,
        seed: 1,
        ports: vec![Port::Hpc, Port::Hp],
        faults: Vec::new(),
        census: false,
        power_on: PowerOn::Dirty,
        occurrences: false,
        lazy: None,
    };
    let ram = MmapRegion::new(RAM as usize).expect("memory for the bench");
    Domain::new(&config, ram).expect("a domain")
}

/// Calls `access` with addresses that walk through `bytes` by `step`, over and over.
fn walk(iterations: u64, bytes: u64, step: u64, mut access: impl FnMut(u64)) {
    let mut at = 0;
    for _ in 0..iterations {
        access(BASE + at);
        at += step;
        if at >= bytes {
            at = 0;
        }
    }
}

fn cpu(c: &mut Criterion) {
    let mut group = c.benchmark_group("cpu");
    group.throughput(Throughput::Elements(1));
    let site = SiteId(1);
    let memory = MemoryType::Cacheable;
    for policy in [Policy::Zynqmp, Policy::Lazy] {
        let hot = 32 << 10;
        let mut d = domain(policy);
        walk(hot / LINE, hot, LINE, |pa| {
            d.load(CpuId::BOOT, pa, 8, site, memory)
        });
        group.bench_function(BenchmarkId::new("load hit", policy.name()), |b| {
            b.iter_custom(|n| {
                let start = Instant::now();
                walk(n, hot, 8, |pa| {
                    d.load(CpuId::BOOT, black_box(pa), 8, site, memory)
                });
                start.elapsed()
            });
        });
        group.bench_function(BenchmarkId::new("store hit", policy.name()), |b| {
            b.iter_custom(|n| {
                let start = Instant::now();
                walk(n, hot, 8, |pa| {
                    d.store(CpuId::BOOT, black_box(pa), 8, site, memory)
                });
                start.elapsed()
            });
        });
        let mut d = domain(policy);
        group.bench_function(BenchmarkId::new("load miss", policy.name()), |b| {
            b.iter_custom(|n| misses(&mut d, policy, n));
        });
    }
    group.finish();
}

/// Time of `n` loads that all miss.
fn misses(d: &mut Domain, policy: Policy, n: u64) -> Duration {
    let (site, memory) = (SiteId(1), MemoryType::Cacheable);
    if policy == Policy::Zynqmp {
        // Eight times the cache, in order: no line lives to its next use.
        let start = Instant::now();
        walk(n, RAM / 2, LINE, |pa| {
            d.load(CpuId::BOOT, black_box(pa), 8, site, memory);
        });
        return start.elapsed();
    }
    // A cache without bounds misses only what was invalidated.
    let mut time = Duration::ZERO;
    let mut rest = n;
    while rest > 0 {
        let lines = rest.min(RING / LINE);
        walk(lines, RING, LINE, |pa| {
            d.maintain(CpuId::BOOT, CacheOp::Invalidate, pa, site, ChainId(0));
        });
        d.barrier(CpuId::BOOT, Barrier::DSB_SY);
        let start = Instant::now();
        walk(lines, RING, LINE, |pa| {
            d.load(CpuId::BOOT, black_box(pa), 8, site, memory);
        });
        time += start.elapsed();
        rest -= lines;
    }
    time
}

fn dma(c: &mut Criterion) {
    let mut group = c.benchmark_group("dma 4 KiB");
    group.throughput(Throughput::Bytes(PAGE));
    let buf = vec![0u8; PAGE as usize];

    let mut peer = vec![0u8; RING as usize];
    group.bench_function("peer: memcpy", |b| {
        b.iter_custom(|n| {
            let start = Instant::now();
            walk(n, RING, PAGE, |pa| {
                let at = (pa - BASE) as usize;
                peer[at..at + PAGE as usize].copy_from_slice(black_box(&buf));
            });
            black_box(&mut peer);
            start.elapsed()
        });
    });

    for (name, master) in [("snooping", SNOOPING), ("non-snooping", BLIND)] {
        let mut d = cleaned();
        group.bench_function(BenchmarkId::new("read", name), |b| {
            b.iter_custom(|n| reads(&mut d, master, n));
        });
        let mut d = cleaned();
        group.bench_function(BenchmarkId::new("write", name), |b| {
            b.iter_custom(|n| writes(&mut d, master, n));
        });
    }

    // Nobody has cleaned the memory: a finding on each line.
    let mut d = domain(Policy::Zynqmp);
    group.bench_function(BenchmarkId::new("read", "non-snooping, not cleaned"), |b| {
        b.iter_custom(|n| reads(&mut d, BLIND, n));
    });
    let mut d = domain(Policy::Zynqmp);
    group.bench_function(
        BenchmarkId::new("write", "non-snooping, not cleaned"),
        |b| {
            b.iter_custom(|n| writes(&mut d, BLIND, n));
        },
    );

    for (name, direction) in [
        ("received", Direction::ToMemory),
        ("sent", Direction::FromMemory),
    ] {
        let mut d = cleaned();
        group.bench_function(BenchmarkId::new("buffer", name), |b| {
            b.iter_custom(|n| buffers(&mut d, direction, n));
        });
    }
    group.finish();
}

/// Bytes of a buffer that devices pass on, and how many there are.
const FRAME: u64 = 1 << 20;
const FRAMES: u64 = 2;

/// Large buffers from a device that does not snoop to one that does; the CPU only maintains them.
fn passed_on(c: &mut Criterion) {
    let mut group = c.benchmark_group("passed on");
    group.throughput(Throughput::Bytes(FRAME));
    let mut d = domain(Policy::Zynqmp);
    maintain(&mut d, CacheOp::Clean, BASE, FRAMES * FRAME);
    group.bench_function("1 MiB", |b| {
        b.iter_custom(|n| {
            let start = Instant::now();
            walk(n, FRAMES * FRAME, FRAME, |pa| pass_on(&mut d, pa));
            start.elapsed()
        });
    });
    group.finish();
}

/// The way of one buffer: cleaned, written, invalidated, read.
fn pass_on(d: &mut Domain, pa: u64) {
    let mut buf = vec![0u8; PAGE as usize];
    maintain(d, CacheOp::Clean, pa, FRAME);
    let transfer = |direction| Transfer {
        direction,
        pa,
        bus: None,
        scattered: false,
        len: FRAME,
        descriptor: 0,
        channel: 0,
        snoop: true,
    };
    let order = Order::Doorbell(d.doorbell(BLIND));
    let id = d.transfer_open(BLIND, transfer(Direction::ToMemory), order);
    walk(FRAME / PAGE, FRAME, PAGE, |at| {
        let done = d.dma_write(BLIND, Access::data(id), pa + at - BASE, black_box(&buf));
        done.expect("within RAM");
    });
    d.transfer_close(BLIND, id);
    d.register_read(BLIND);
    maintain(d, CacheOp::Invalidate, pa, FRAME);
    let order = Order::Doorbell(d.doorbell(SNOOPING));
    let id = d.transfer_open(SNOOPING, transfer(Direction::FromMemory), order);
    walk(FRAME / PAGE, FRAME, PAGE, |at| {
        let done = d.dma_read(SNOOPING, Access::data(id), pa + at - BASE, &mut buf);
        done.expect("within RAM");
    });
    d.transfer_close(SNOOPING, id);
}

/// A domain whose ring is clean, as a driver has to see to.
fn cleaned() -> Domain {
    let mut d = domain(Policy::Zynqmp);
    maintain(&mut d, CacheOp::Clean, BASE, RING);
    d
}

/// Maintenance of a range, complete.
fn maintain(d: &mut Domain, op: CacheOp, pa: u64, len: u64) {
    for line in (pa..pa + len).step_by(LINE as usize) {
        d.maintain(CpuId::BOOT, op, line, SiteId(1), ChainId(0));
    }
    d.barrier(CpuId::BOOT, Barrier::DSB_SY);
}

fn reads(d: &mut Domain, master: MasterId, n: u64) -> Duration {
    let mut buf = vec![0u8; PAGE as usize];
    let access = Access::data(TransferId::CONTROL);
    let start = Instant::now();
    walk(n, RING, PAGE, |pa| {
        let done = d.dma_read(master, access, pa, black_box(&mut buf));
        done.expect("within RAM");
    });
    start.elapsed()
}

fn writes(d: &mut Domain, master: MasterId, n: u64) -> Duration {
    let buf = vec![0u8; PAGE as usize];
    let access = Access::data(TransferId::CONTROL);
    let start = Instant::now();
    walk(n, RING, PAGE, |pa| {
        let done = d.dma_write(master, access, pa, black_box(&buf));
        done.expect("within RAM");
    });
    start.elapsed()
}

/// All of a buffer's way: the CPU fills it and the device reads, or the device writes and the CPU
/// reads, with the maintenance that takes.
fn buffers(d: &mut Domain, direction: Direction, n: u64) -> Duration {
    let mut buf = vec![0u8; PAGE as usize];
    let (site, memory) = (SiteId(1), MemoryType::Cacheable);
    let start = Instant::now();
    walk(n, RING, PAGE, |pa| {
        let sent = direction == Direction::FromMemory;
        for word in (pa..pa + PAGE).step_by(8).filter(|_| sent) {
            d.store(CpuId::BOOT, word, 8, site, memory);
        }
        maintain(d, CacheOp::Clean, pa, PAGE);
        let transfer = Transfer {
            direction,
            pa,
            bus: None,
            scattered: false,
            len: PAGE,
            descriptor: 0,
            channel: 0,
            snoop: true,
        };
        let order = Order::Doorbell(d.doorbell(BLIND));
        let id = d.transfer_open(BLIND, transfer, order);
        let access = Access::data(id);
        let done = match direction {
            Direction::FromMemory => d.dma_read(BLIND, access, pa, &mut buf),
            Direction::ToMemory => d.dma_write(BLIND, access, pa, &buf),
        };
        done.expect("within RAM");
        d.transfer_close(BLIND, id);
        // As the handler of its interrupt does.
        d.register_read(BLIND);
        if !sent {
            maintain(d, CacheOp::Invalidate, pa, PAGE);
        }
        for word in (pa..pa + PAGE).step_by(8).filter(|_| !sent) {
            d.load(CpuId::BOOT, word, 8, site, memory);
        }
    });
    start.elapsed()
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(400))
        .measurement_time(Duration::from_millis(1200));
    targets = cpu, dma, passed_on
}
criterion_main!(benches);
