// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A chip of small devices that write down what they are asked, driven as an engine does it.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vm_memory::{Bytes, VolatileMemory};

use super::*;
use crate::clock::Token;
use crate::coherency::Policy;
use crate::dma::{Access, DmaError};
use crate::registers::{Register, RegisterFile};
use crate::state::{Invalid, RestoreError, SaveError, Saved, State, Stateful as _};

const BASE: u64 = 0x4000_0000;
const RAM: u64 = 0x1_0000;
const WINDOWS: u64 = BASE + RAM;

/// What the device's registers do when written.
const STORED: u64 = 0x00;
const CLEARED: u64 = 0x04;
/// Schedules an event after as many ticks as are written, which raises the line.
const RAISE: u64 = 0x08;
/// Lowers the line.
const LOWER: u64 = 0x0c;
/// Reads memory at the address written; shows whether that went well.
const DMA: u64 = 0x10;
/// Shows how often it has been read.
const COUNTED: u64 = 0x14;
/// Schedules an event after as many ticks as are written, which does nothing but be counted.
const TICK: u64 = 0x18;
/// How many events of either kind there were.
const EVENTS: u64 = 0x1c;
/// Asks for an event after one tick, again and again, for ever.
const BUSY: u64 = 0x20;

static TABLE: [Register; 9] = [
    Register::rw(STORED, "STORED", 0xffff_fff0),
    Register::w1c(CLEARED, "CLEARED", u32::MAX).with_reset(u32::MAX),
    Register::ro(RAISE, "RAISE", 0).with_acts(0xffff),
    Register::ro(LOWER, "LOWER", 0),
    Register::ro(DMA, "DMA", 0),
    Register::ro(COUNTED, "COUNTED", 0),
    Register::ro(TICK, "TICK", 0),
    Register::ro(EVENTS, "EVENTS", 0),
    Register::ro(BUSY, "BUSY", 0),
];

/// Writes as the device got them.
type Writes = Arc<Mutex<Vec<(u64, u32)>>>;

struct Probe {
    regs: RegisterFile,
    line: bool,
    writes: Writes,
}

impl Device for Probe {
    fn registers(&self) -> &[Register] {
        self.regs.table()
    }

    fn peek(&self, offset: u64) -> u32 {
        self.regs.get(offset)
    }

    fn read_effect(&mut self, offset: u64, _: &mut Context<'_>) {
        if offset == COUNTED {
            self.regs.set(COUNTED, self.regs.get(COUNTED) + 1);
        }
    }

    fn write(&mut self, offset: u64, value: u32, ctx: &mut Context<'_>) {
        self.writes.lock().unwrap().push((offset, value));
        match offset {
            RAISE => ctx.clock.schedule(value.into(), 0),
            TICK => ctx.clock.schedule(value.into(), 1),
            BUSY => ctx.clock.schedule(1, 2),
            LOWER => self.line = false,
            DMA => {
                let access = Access::descriptor(Default::default());
                let read = ctx.dma.read(access, value.into(), &mut [0; 4]);
                self.regs.set(DMA, if read.is_ok() { 1 } else { 2 });
                if value == 0 {
                    assert_eq!(read, Err(DmaError::NoPort { pa: 0 }));
                }
            }
            _ => {
                self.regs.write(offset, value);
            }
        }
    }

    fn wake(&mut self, token: Token, ctx: &mut Context<'_>) {
        self.regs.set(EVENTS, self.regs.get(EVENTS) + 1);
        match token {
            0 => self.line = true,
            2 => ctx.clock.schedule(1, 2),
            _ => {}
        }
    }

    fn irq(&self) -> bool {
        self.line
    }

    fn save(&self) -> Result<Saved, SaveError> {
        Saved::new(&ProbeState(self.regs.values().to_vec(), self.line))
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        let ProbeState(regs, line) = saved.open()?;
        self.line = line;
        let set = self.regs.set_values(regs);
        set.map_err(Invalid::of::<ProbeState>)
    }
}

#[derive(Serialize, Deserialize)]
struct ProbeState(Vec<u32>, bool);

impl State for ProbeState {
    const COMPONENT: &'static str = "probe";
    const VERSION: u16 = 1;
}

fn config() -> DomainConfig {
    DomainConfig {
        policy: Policy::Eager,
        ..DomainConfig::plain(BASE, RAM, Vec::new())
    }
}

/// A chip with one probe for each of `ports`; probe *n* has interrupt *n*.
struct Rig {
    soc: Soc,
    writes: Vec<Writes>,
}

impl Rig {
    fn new(ports: &[Option<Port>]) -> Self {
        Rig::with_jitter(ports, Jitter::default())
    }

    fn with_jitter(ports: &[Option<Port>], jitter: Jitter) -> Self {
        Rig::with(ports, jitter, &[])
    }

    fn with(ports: &[Option<Port>], jitter: Jitter, faults: &[&str]) -> Self {
        let writes: Vec<Writes> = ports.iter().map(|_| Writes::default()).collect();
        let devices = (0u8..)
            .zip(ports.iter().zip(&writes))
            .map(|(n, (port, writes))| Attachment {
                name: format!("probe{n}"),
                irq: Some(n),
                port: *port,
                claims_coherent: false,
                ranges: Vec::new(),
                stream: None,
                device: Box::new(Probe {
                    regs: RegisterFile::new(&TABLE[..]),
                    line: false,
                    writes: Arc::clone(writes),
                }),
            })
            .collect();
        let parts = Parts {
            domain: DomainConfig {
                faults: faults.iter().map(|f| f.parse().unwrap()).collect(),
                ..config()
            },
            ram: Vec::new(),
            wide: false,
            devices,
            streams: Streams::default(),
            stream_names: Vec::new(),
            jitter,
            identity: 0,
            outsider: None,
        };
        let ram = MmapRegion::new(RAM as usize).unwrap();
        let windows = MmapRegion::new(ports.len() * WINDOW as usize).unwrap();
        let soc = Soc::new(parts, (ram, None), Some(windows)).unwrap();
        Rig { soc, writes }
    }

    fn store(&mut self, device: u64, offset: u64, data: &[u8]) {
        let pa = WINDOWS + device * WINDOW + offset;
        self.soc.write_register(CpuId::BOOT, pa, SiteId(1), data);
    }

    fn write(&mut self, device: u64, offset: u64, value: u32) {
        self.store(device, offset, &value.to_le_bytes());
    }

    /// What the window shows, without a load.
    fn shown(&mut self, device: u64, offset: u64) -> u32 {
        let at = (device * WINDOW + offset) as usize;
        let mut bytes = [0; 4];
        let memory = self.soc.windows.as_ref().unwrap().memory();
        memory
            .as_volatile_slice()
            .read_slice(&mut bytes, at)
            .unwrap();
        u32::from_le_bytes(bytes)
    }

    /// The guest's load of a register: as the window shows it.
    fn read(&mut self, device: u64, offset: u64) -> u32 {
        let shown = self.shown(device, offset);
        let pa = WINDOWS + device * WINDOW + offset;
        let mut data = [0; 4];
        self.soc
            .read_register(CpuId::BOOT, pa, SiteId(1), &mut data);
        assert_eq!(u32::from_le_bytes(data), shown, "{offset:#x}");
        shown
    }

    fn writes(&self, device: usize) -> Vec<(u64, u32)> {
        std::mem::take(&mut *self.writes[device].lock().unwrap())
    }

    fn hash(&self) -> u64 {
        self.soc.report().domain.run_hash
    }
}

#[test]
fn only_devices_with_a_port_are_masters() {
    let mut rig = Rig::new(&[None, Some(Port::Hp), None, Some(Port::Hpc)]);
    let names: Vec<_> = rig.soc.report().masters;
    let names: Vec<_> = names.iter().map(|m| (m.id.0, m.name.as_str())).collect();
    assert_eq!(names, [(0, "probe1"), (1, "probe3")]);
    for (device, pa, shown) in [(0, 0, 2), (1, BASE, 1), (2, 0, 2), (3, BASE, 1)] {
        rig.write(device, DMA, pa as u32);
        assert_eq!(rig.read(device, DMA), shown, "device {device}");
    }
}

#[test]
fn a_load_of_any_width_gets_its_bytes() {
    let mut rig = Rig::new(&[None]);
    rig.write(0, STORED, 0x1122_3340);
    let mut data = [0xff; 7];
    rig.soc
        .read_register(CpuId::BOOT, WINDOWS + STORED + 3, SiteId(1), &mut data);
    assert_eq!(data, [0x11, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    // The widest, up to the window's end, and what lies past all windows.
    let mut data = [0xff; 64];
    let last = WINDOWS + WINDOW - 4;
    rig.soc
        .read_register(CpuId::BOOT, last, SiteId(1), &mut data);
    assert_eq!(data[..4], [0; 4]);
    let past = WINDOWS + WINDOW;
    rig.soc
        .read_register(CpuId::BOOT, past, SiteId(1), &mut data);
    rig.soc.write_register(CpuId::BOOT, past, SiteId(1), &data);
    assert_eq!(rig.writes(0), [(STORED, 0x1122_3340)]);
}

#[test]
fn windows_need_room() {
    let mut rig = Rig::new(&[None]);
    let parts = |devices| Parts {
        domain: config(),
        ram: Vec::new(),
        wide: false,
        devices,
        streams: Streams::default(),
        stream_names: Vec::new(),
        jitter: Jitter::default(),
        identity: 0,
        outsider: None,
    };
    let slot = rig.soc.slots.remove(0);
    let attachment = Attachment {
        name: slot.name,
        irq: None,
        port: None,
        claims_coherent: false,
        ranges: Vec::new(),
        stream: None,
        device: slot.device,
    };
    let ram = MmapRegion::new(RAM as usize).unwrap();
    let windows = MmapRegion::new(WINDOW as usize - 4096).unwrap();
    let small = Soc::new(parts(vec![attachment]), (ram, None), Some(windows));
    assert!(matches!(small, Err(SocError::Windows { devices: 1, .. })));
}

#[test]
fn a_narrow_store_touches_only_its_bytes() {
    let mut rig = Rig::new(&[None]);
    rig.write(0, STORED, 0x1122_3344);
    rig.store(0, STORED + 1, &[0xaa]);
    assert_eq!(rig.read(0, STORED), 0x1122_aa40);
    rig.store(0, STORED + 2, &[0xcc, 0xdd]);
    assert_eq!(rig.read(0, STORED), 0xddcc_aa40);
    rig.store(0, CLEARED + 1, &[0x0f]);
    assert_eq!(rig.read(0, CLEARED), 0xffff_f0ff);
    rig.writes(0);
    // A byte in which nothing is declared: no write at all, and the window shows the register.
    rig.store(0, RAISE + 2, &[1, 1]);
    rig.store(0, EVENTS + 3, &[1]);
    rig.store(0, 0x100, &[1]);
    assert_eq!(rig.writes(0), []);
    assert_eq!([RAISE, EVENTS, 0x100].map(|r| rig.shown(0, r)), [0; 3]);
    rig.store(0, RAISE + 1, &[1]);
    assert_eq!(rig.writes(0), [(RAISE, 0x100)]);
}

#[test]
fn a_store_that_crosses_words_is_split_by_bytes() {
    let mut rig = Rig::new(&[None]);
    rig.write(0, STORED, 0x1122_3344);
    rig.writes(0);
    // Two bytes of a register that is stored, two of one that is cleared by ones.
    rig.store(0, STORED + 2, &[0x66, 0x55, 0x01, 0x80]);
    assert_eq!(
        rig.writes(0),
        [(STORED, 0x5566_3340), (CLEARED, 0x0000_8001)]
    );
    assert_eq!(rig.read(0, CLEARED), 0xffff_7ffe);
    // A pair of registers at once, with a device that changes the second when the first is written.
    rig.store(0, DMA, &[0, 0, 0, 0, 7, 0, 0, 0]);
    assert_eq!(rig.writes(0), [(DMA, 0), (COUNTED, 7)]);
    // The widest access, misaligned: no byte of the 17th word, which is not declared, is lost.
    let bytes: Vec<u8> = (0..64).collect();
    rig.store(0, STORED + 1, &bytes);
    let got = rig.writes(0);
    assert_eq!(got[0], (STORED, 0x0201_0040));
    assert_eq!(got[1], (CLEARED, 0x0605_0403));
}

#[test]
fn values_and_devices_count_in_the_run_hash() {
    type Step = fn(&mut Rig);
    let of = |step: Step| {
        let mut rig = Rig::new(&[None, None]);
        step(&mut rig);
        rig.hash()
    };
    let all: [Step; 8] = [
        |_| {},
        |rig| rig.write(0, STORED, 0x10),
        |rig| rig.write(0, STORED, 0x20),
        |rig| rig.write(1, STORED, 0x10),
        |rig| rig.store(0, STORED, &[0x10]),
        |rig| {
            rig.read(0, STORED);
        },
        |rig| {
            rig.read(0, CLEARED);
        },
        |rig| {
            rig.read(1, STORED);
        },
    ];
    let hashes: std::collections::BTreeSet<_> = all.map(of).into_iter().collect();
    assert_eq!(hashes.len(), all.len());
    // The value alone, as it was when it was read: all else is the same.
    let mut rigs = [Rig::new(&[None]), Rig::new(&[None])];
    rigs[1]
        .soc
        .with(0, |device, ctx| device.write(STORED, 0x10, ctx));
    assert_eq!(rigs[0].hash(), rigs[1].hash());
    rigs.iter_mut().for_each(|rig| {
        rig.read(0, STORED);
    });
    assert_ne!(rigs[0].hash(), rigs[1].hash());
}

#[test]
fn a_load_has_its_effect_after_its_value() {
    let mut rig = Rig::new(&[None]);
    assert_eq!([0; 3].map(|_| rig.read(0, COUNTED)), [0, 1, 2]);
}

#[test]
fn idle_skips_to_the_interrupt_and_no_further() {
    let mut rig = Rig::new(&[None]);
    rig.write(0, TICK, 1_000);
    rig.write(0, RAISE, 2_000);
    rig.write(0, TICK, 3_000);
    rig.soc.idle();
    assert_eq!((rig.soc.irq_lines(), rig.shown(0, EVENTS)), (1, 2));
    // What the CPU has not been offered may be what wakes it: WFI falls through.
    rig.write(0, LOWER, 0);
    rig.write(0, RAISE, 0);
    assert_eq!(rig.soc.irq_lines(), 1);
    rig.soc.idle();
    assert_eq!(rig.shown(0, EVENTS), 3);
}

#[test]
fn a_line_that_stays_high_does_not_stop_time() {
    let mut rig = Rig::new(&[None, None]);
    rig.write(0, RAISE, 1_000);
    rig.soc.idle();
    assert_eq!(rig.soc.irq_lines(), 1);
    // The guest has masked it and waits for something else.
    rig.write(1, TICK, 1_000);
    rig.write(1, RAISE, 2_000);
    rig.soc.idle();
    assert_eq!((rig.soc.irq_lines(), rig.shown(1, EVENTS)), (3, 2));
    // Low and high again while the CPU waits: that counts.
    rig.write(0, LOWER, 0);
    rig.write(0, RAISE, 1_000);
    rig.write(1, TICK, 2_000);
    rig.soc.idle();
    assert_eq!((rig.soc.irq_lines(), rig.shown(1, EVENTS)), (3, 2));
    // Nothing waits any more, then a device that never interrupts: it comes to an end.
    rig.soc.idle();
    rig.soc.idle();
    assert_eq!(rig.shown(1, EVENTS), 3);
    rig.write(1, BUSY, 0);
    rig.soc.idle();
    assert!(u64::from(rig.shown(1, EVENTS)) <= 4 + IDLE_BUDGET as u64);
}

/// The same chip again over the same memory, with the state of the first.
fn renewed(rig: &Rig, ports: &[Option<Port>]) -> Rig {
    let saved = rig.soc.save_state().unwrap();
    let mut other = Rig::new(ports);
    other.soc.restore_state(&saved).unwrap();
    assert!(other.soc.save_state().unwrap() == saved);
    other
}

const ACTS: [fn(&mut Rig); 8] = [
    |rig| rig.write(0, STORED, 0x1234_5678),
    |rig| rig.write(0, RAISE, 3),
    |rig| rig.write(1, TICK, 900),
    |rig| rig.write(1, RAISE, 5),
    |rig| rig.write(0, DMA, BASE as u32),
    |rig| rig.soc.idle(),
    |rig| rig.write(1, LOWER, 0),
    |rig| rig.soc.idle(),
];

#[test]
fn a_chip_goes_on_from_its_saved_state() {
    let ports = [Some(Port::Hp), None];
    let (mut plain, mut other) = (Rig::new(&ports), Rig::new(&ports));
    for act in ACTS {
        other = renewed(&other, &ports);
        act(&mut plain);
        act(&mut other);
        assert_eq!(plain.soc.irq_lines(), other.soc.irq_lines());
        assert_eq!(plain.soc.steps(), other.soc.steps());
        let shown = |rig: &Rig| {
            let mut bytes = vec![0; 2 * WINDOW as usize];
            let memory = rig.soc.windows.as_ref().unwrap().memory();
            memory
                .as_volatile_slice()
                .read_slice(&mut bytes, 0)
                .unwrap();
            bytes
        };
        assert!(
            shown(&plain) == shown(&other),
            "registers show something else"
        );
    }
    assert!(plain.soc.events > 0, "they are among the steps");
    assert_eq!(plain.soc.report(), other.soc.report());
}

#[test]
fn a_state_of_another_chip_is_refused() {
    let saved = Rig::new(&[None, None]).soc.save_state().unwrap();
    let mut other = Rig::new(&[None]);
    let error = other.soc.restore_state(&saved).unwrap_err().to_string();
    assert!(error.contains("chip has devices ="), "{error}");
    // The same devices, of which one has another stream to send, say.
    let mut other = Rig::new(&[None, None]);
    other.soc.identity = 1;
    let error = other.soc.restore_state(&saved).unwrap_err().to_string();
    assert!(error.contains("chip has hash of the board ="), "{error}");
    let mut damaged = Rig::new(&[None]);
    damaged.write(0, RAISE, 1);
    let mut saved = damaged.soc.save_state().unwrap();
    saved.bytes_mut().pop();
    let error = Rig::new(&[None]).soc.restore_state(&saved).unwrap_err();
    assert!(error.to_string().contains("it is damaged; save it again"));
}

/// Each single bit of a chip's state turned, in the middle of a run: it is refused, or the chip goes on
/// somehow. Parts check themselves; here it is what they hold of each other.
#[test]
fn a_damaged_state_is_refused_or_does_no_harm() {
    let ports = [Some(Port::Hp), None];
    let mut rig = Rig::new(&ports);
    for act in &ACTS[..5] {
        act(&mut rig);
    }
    let saved = rig.soc.save_state().unwrap();
    let bits = 8 * saved.len();
    let accepted = (0..bits).filter(|bit| {
        let mut damaged = saved.clone();
        damaged.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
        let mut other = Rig::new(&ports);
        let restored = other.soc.restore_state(&damaged).is_ok();
        if restored {
            for act in ACTS {
                act(&mut other);
            }
            other.soc.report();
            other.soc.save_state().unwrap();
        }
        restored
    });
    let accepted = accepted.count();
    assert!(0 < accepted && accepted < bits, "{accepted} of {bits}");
}

/// Accesses until the line is up; `None` if it does not come.
fn until_up(rig: &mut Rig) -> Option<usize> {
    (0..200).find(|_| {
        let up = rig.soc.irq_lines() != 0;
        rig.read(0, EVENTS);
        up
    })
}

#[test]
fn an_interrupt_comes_late_by_chance_and_falls_at_once() {
    let late = |seed| {
        let mut rig = Rig::with_jitter(&[None], Jitter::new(seed, 40));
        let mut all = Vec::new();
        for _ in 0..10 {
            rig.write(0, RAISE, 10);
            let at = until_up(&mut rig).unwrap();
            assert!((9..=95).contains(&at), "{at}");
            rig.write(0, LOWER, 0);
            assert_eq!(rig.soc.irq_lines(), 0);
            all.push(at);
        }
        (all, rig.hash())
    };
    assert_eq!(late(1), late(1));
    assert_ne!(late(1).0, late(2).0);
}

#[test]
fn an_interrupt_that_the_device_takes_back_does_not_come() {
    let mut rig = Rig::with_jitter(&[None], Jitter::new(1, 1000));
    rig.write(0, RAISE, 0);
    // The device has raised its line, which is on its way.
    while rig.read(0, EVENTS) == 0 {}
    if rig.soc.irq_lines() == 0 {
        let saved = rig.soc.save_state().unwrap();
        let mut other = Rig::with_jitter(&[None], Jitter::new(1, 1000));
        other.soc.restore_state(&saved).unwrap();
        assert_eq!(other.soc.late, 1);
        rig.write(0, LOWER, 0);
    }
    for _ in 0..2000 {
        rig.read(0, EVENTS);
    }
    assert_eq!(rig.soc.irq_lines(), 0);
}

/// The levels of the line while it is raised, lowered and raised again, each after some accesses.
fn levels(fault: &str) -> Vec<(bool, usize)> {
    let mut rig = Rig::with(&[Some(Port::Hp)], Jitter::default(), &[fault]);
    let mut levels = vec![(false, 0)];
    for step in 0..4 {
        rig.write(0, DMA, BASE as u32);
        match step % 2 {
            0 => rig.write(0, RAISE, 10),
            _ => rig.write(0, LOWER, 0),
        }
        for _ in 0..1500 {
            rig.read(0, EVENTS);
            let up = rig.soc.irq_lines() != 0;
            match levels.last_mut() {
                Some((last, for_long)) if *last == up => *for_long += 1,
                _ => levels.push((up, 1)),
            }
        }
    }
    let report = rig.soc.report().domain;
    assert!(report.faults[0].at.is_some(), "{fault}");
    levels
}

/// Whether the line goes up and down as often as that, and for how long it is up.
fn ups(fault: &str) -> Vec<usize> {
    let all = levels(fault);
    all.iter()
        .filter(|(up, _)| *up)
        .map(|(_, for_long)| *for_long)
        .collect()
}

#[test]
fn an_interrupt_is_lost_late_early_or_there_twice() {
    let up = |range: std::ops::Range<usize>, n: usize| assert!(range.contains(&n), "{n}");
    let lost = ups("irq@1:lost");
    assert_eq!(lost.len(), 1);
    up(1400..1501, lost[0]);
    let late = ups("irq@2:late+1000");
    assert_eq!(late.len(), 2);
    up(1400..1501, late[0]);
    up(400..500, late[1]);
    let early = ups("irq@2:early+0");
    // At the access before the device is even told to raise it, and so for longer than the one before.
    assert_eq!(early.len(), 2, "{early:?}");
    up(early[0] + 5..1501, early[1]);
    let twice = ups("irq@1:twice");
    // It does not go down in between, which makes no difference to whoever goes by its level.
    assert_eq!(twice.len(), 2, "{twice:?}");
    up(lost[0] + 1000..lost[0] + 1100, twice[0]);
}
