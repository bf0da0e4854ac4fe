// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A backend without a guest, for tests.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, LastMaintenance, Why};
use staleline_devices::coherency::report::{
    CacheCounters, Counted, DomainReport, MaintenanceOp, MaintenanceReport, TransferRecord,
};
use staleline_devices::cpu::{CacheOp, ChainId, CpuId, SiteId};
use staleline_devices::dma::{Direction, MasterId, Port, Transfer, TransferId};
use staleline_devices::soc::report::{MasterInfo, SocReport, StreamReport};
use staleline_protocol::plan::Plan;
use staleline_protocol::report::Report;
use staleline_support::progress::{Counted as Countable, Progress, Quiet};

use staleline_results::{GuestEnd, KernelId, RunResult};

use super::backend::{Attempt, Backend};
use super::directory::RunDir;
use super::logbook;
use super::orchestrate::Runner;
use crate::engine::Observations;
use crate::engine::chains::Chain;
use crate::evidence::{Artifacts, Execution, GuestFile, Sites};
use crate::exit::Error;
use crate::spec::RunSpec;

/// Progress that wants no more after so many runs.
pub struct After(AtomicUsize);

impl After {
    /// After so many.
    pub fn runs(runs: usize) -> Self {
        After(AtomicUsize::new(runs))
    }
}

impl Progress for After {
    fn begin(&self, _: &str, _: Countable) {}
    fn advance(&self, _: &str) {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
    }
    fn detail(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// A place in the agent.
const USER_SITE: SiteId = SiteId(4 | SiteId::USER);

/// A machine on which a capture went well: six transfers, six invalidates.
pub fn soc_report() -> SocReport {
    let transfer = |id: u32| TransferRecord {
        id: TransferId(id),
        master: MasterId(0),
        transfer: Transfer {
            direction: Direction::ToMemory,
            pa: 0x4500_0000,
            bus: None,
            scattered: false,
            len: 12040,
            descriptor: 0x4431_c040,
            channel: 0,
            snoop: true,
        },
        opened_at: 1000 * u64::from(id),
        closed_at: Some(1000 * u64::from(id) + 500),
        bytes: 12040,
    };
    let operation = |n: u32| MaintenanceOp {
        cpu: CpuId::BOOT,
        number: 100 + n,
        op: CacheOp::Invalidate,
        site: SiteId(2),
        chain: ChainId(1),
        first_pa: 0x4500_0000,
        lines: 189,
        pieces: Vec::new(),
        cleaned: 0,
        invalidated: 189,
        completed_by: n,
        dma_lines: 189,
        needed_lines: 189,
        needed_at: Vec::new(),
        at: 1000 * u64::from(n) + 600,
        dropped: false,
    };
    SocReport {
        domain: DomainReport {
            hazards: Vec::new(),
            hazards_dropped: 0,
            maintenance: MaintenanceReport {
                cleaned: 300,
                invalidated: 1134,
                needed: 1134,
                redundant: 0,
                operations: (1..=6).map(operation).collect(),
            },
            transfers: (1..=6).map(transfer).collect(),
            cache: CacheCounters::default(),
            accesses: 22_000_000,
            run_hash: 0x0123_4567_89ab_cdef,
            faults: Vec::new(),
            counted: Counted::default(),
            census: None,
            saturated: Vec::new(),
        },
        masters: vec![MasterInfo {
            id: MasterId(0),
            name: "axi-dmac-rx".into(),
            port: Port::Hp,
            claims_coherent: false,
            asks_if_claimed: false,
            ordered_as_a_cpu: false,
        }],
        streams: vec![StreamReport {
            name: "adc".into(),
            bytes: 61_200,
            checked: 0,
            corrupt: 0,
            first_corrupt: None,
        }],
        interrupts: 6,
        register_accesses: 200,
        device_errors: Vec::new(),
        extra: Default::default(),
    }
}

/// A finding: user space read what transfer `id` had written.
pub fn stale_read(id: u32, manifested: bool) -> Hazard {
    Hazard {
        kind: HazardKind::MissingInvalidate,
        manifested,
        lines: 189,
        manifested_lines: if manifested { 189 } else { 0 },
        wrong_bytes: if manifested { 12_000 } else { 0 },
        first_pa: 0x4500_0000,
        end_pa: 0x4500_2f40,
        writer: Actor::Device {
            master: MasterId(0),
            transfer: TransferId(id),
            snoops: false,
        },
        reader: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: USER_SITE,
        },
        transfer: TransferId(id),
        master: MasterId(0),
        cached_by: Actor::Cpu {
            cpu: CpuId::BOOT,
            site: SiteId(1),
        },
        cached_at: 800,
        last_maintenance: Some(LastMaintenance {
            cpu: CpuId::BOOT,
            op: CacheOp::Clean,
            site: SiteId(2),
            chain: ChainId(1),
            operation: 101,
            at: 900,
            first_pa: 0x4500_0000,
            lines: 256,
            barrier: None,
            barrier_at: 0,
        }),
        why: Why::Absent,
        last_clean: None,
        last_invalidate: None,
        merged_by: Actor::Unknown,
        merged_at: 0,
        merged: 0,
        started_at: None,
        started_by: Default::default(),
        line_pa: 0x4500_0000,
        line_bytes: u64::MAX,
        line_uncleaned: 0,
        readers: vec![USER_SITE],
        written_past: false,
        stood: None,
        signalled: None,
        written_at: 1000 * u64::from(id),
        at: 1000 * u64::from(id) + 700,
    }
}

/// Addresses of the sites above; with the map of [`artifacts`], they have names.
pub fn sites() -> Sites {
    Sites::from([
        (SiteId(1), 0xffff_8000_8001_0014),
        (SiteId(2), 0xffff_8000_8001_1020),
        (USER_SITE, 0x21_0f30),
    ])
}

/// The chain of all maintenance.
pub fn seen() -> Observations {
    Observations {
        chains: vec![Chain {
            pid: Some(1),
            link: None,
            callers: vec![0xffff_8000_8001_2040],
            user: None,
        }],
        ..Observations::default()
    }
}

/// What an agent prints that carries out `plan` without trouble.
pub fn console(plan: &Plan) -> String {
    let mut text = "[    0.000000] Booting Linux\r\nKTAP version 1\r\n1..2\r\n\
                    ok 1 boot\r\n"
        .to_owned();
    let mut say = |report: Report| text.push_str(&format!("{}\r\n", report.to_line()));
    if let Some(t) = &plan.transfer {
        for index in 0..t.buffers {
            say(Report::Buffer {
                index,
                exporter: t.exporter.name().into(),
                bytes: t.buffer_bytes,
                extents: vec![(
                    0x4500_0000 + u64::from(index) * t.buffer_bytes,
                    t.buffer_bytes,
                )],
                va: 0x7f00_0000,
            });
        }
        for frame in 0..t.frames {
            say(Report::Data {
                frame,
                buffer: frame % t.buffers,
                bytes: t.bytes_of_frame(frame),
                corrupt: 0,
                first_corrupt: None,
            });
        }
    }
    text.push_str("ok 2 transfer\r\n[    1.000000] reboot: Power down\r\n");
    text
}

type Change = dyn Fn(Attempt<'_>, &mut Execution, &mut String) + Sync + Send;

/// Pretends to run guests.
pub struct FakeBackend {
    dir: tempfile::TempDir,
    change: Box<Change>,
    prepare_error: Option<fn() -> Error>,
    /// Number dropped in each attempt, in order.
    pub attempts: Mutex<Vec<Option<u32>>>,
}

impl FakeBackend {
    /// What a run of that spec says, in a directory that is gone then.
    pub fn run(&self, spec: &RunSpec) -> RunResult {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path()).unwrap();
        let runner = Runner {
            backend: self,
            progress: &Quiet,
            trace: false,
        };
        let files = &mut logbook::files(&dir).unwrap();
        runner.run(spec, &dir, files).unwrap()
    }

    /// All goes well, but for what `change` does to each attempt's outcome and console.
    pub fn new(
        change: impl Fn(Attempt<'_>, &mut Execution, &mut String) + Sync + Send + 'static,
    ) -> Self {
        FakeBackend {
            dir: tempfile::tempdir().unwrap(),
            change: Box::new(change),
            prepare_error: None,
            attempts: Mutex::default(),
        }
    }

    /// All goes well.
    pub fn good() -> Self {
        FakeBackend::new(|_, _, _| {})
    }

    /// The kernel cannot be built.
    pub fn without_kernel(error: fn() -> Error) -> Self {
        FakeBackend {
            prepare_error: Some(error),
            ..FakeBackend::good()
        }
    }
}

impl Backend for FakeBackend {
    fn check(&self, _: &RunSpec) -> Result<(), Error> {
        Ok(())
    }

    fn identity(&self) -> Result<String, Error> {
        Ok("fake".into())
    }

    fn prepare(&self, spec: &RunSpec, _: &dyn Progress) -> Result<Artifacts, Error> {
        if let Some(error) = self.prepare_error {
            return Err(error());
        }
        let map = self.dir.path().join("System.map");
        std::fs::write(
            &map,
            "ffff800080010000 T clear_page\nffff800080011000 T dcache_inval_poc\n\
             ffff800080012000 t system_heap_dma_buf_begin_cpu_access\n\
             ffff800080013000 T copy_page\nffff800080014000 t dma_buf_ioctl\n\
             ffff800080015000 T dma_direct_sync_sg_for_cpu\n",
        )
        .unwrap();
        Ok(Artifacts {
            kernel: KernelId {
                name: spec.kernel.0.clone(),
                version: "6.12.117".into(),
                stack: Vec::new(),
                hash: "5f3e".into(),
                image_hash: None,
            },
            image: "/nonexistent/Image".into(),
            vmlinux: None,
            system_map: Some(map),
            source_root: None,
            overlays: Vec::new(),
            initrd: Some(GuestFile {
                path: "/nonexistent/initrd".into(),
                hash: "77aa".into(),
            }),
            disk: None,
            agent_elf: None,
            inputs: Vec::new(),
            packages: Vec::new(),
            notes: Vec::new(),
        })
    }

    fn execute(&self, attempt: Attempt<'_>) -> Result<Execution, Error> {
        self.attempts.lock().unwrap().push(attempt.drop_operation);
        let mut execution = Execution {
            end: GuestEnd::PoweredOff,
            console: attempt.dir.join(super::directory::CONSOLE),
            wall: Duration::from_millis(1540),
            loaded: None,
            sites: sites(),
            seen: seen(),
            report: Some(soc_report()),
            host: None,
            self_check: None,
            restored: None,
            attended: Default::default(),
            stats: serde_json::Value::Null,
        };
        if let Some(report) = &mut execution.report {
            for op in &mut report.domain.maintenance.operations {
                op.dropped = attempt.drop_operation == Some(op.number);
            }
        }
        let mut text = console(&attempt.spec.scenario.plan());
        (self.change)(attempt, &mut execution, &mut text);
        std::fs::write(&execution.console, text).unwrap();
        Ok(execution)
    }
}
