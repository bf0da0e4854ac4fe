// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A run from a seed.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};
use staleline_protocol::plan::{DataPath, Exporter};

use crate::board::settings::CachePolicy;
use crate::engine::EngineKind;
use crate::exit::Error;
use crate::names;
use crate::scenario::limits::{FRAME_ALIGN, PAGE};
use crate::scenario::set::full_key;
use crate::scenario::{Scenario, Transfer};
use crate::spec::RunSpec;

/// Draws of one seed, of which the first that is allowed counts: few are not.
const TRIES: usize = 64;

/// Frames, DMABUFs, pages of each, and incidents: small, for the sake of many.
const FRAMES: u64 = 8;
const BUFFERS: u64 = 4;
const PAGES: u64 = 4;
const INCIDENTS: u64 = 3;

/// Ticks by which devices are late, pauses last, and cables are unplugged.
const TICKS: u64 = 5000;

/// Host seconds for a run.
const TIMEOUT: u32 = 60;

/// From what is drawn.
#[derive(Debug, Clone)]
pub struct Space {
    /// Names or files.
    pub scenarios: Vec<String>,
    /// Stacks or paths.
    pub kernels: Vec<String>,
    /// What runs the guests.
    pub engine: EngineKind,
    /// What is the same in all runs.
    pub set: Vec<String>,
}

/// By chance, the same for the same seed.
pub struct Chance(SplitMix64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Chance(SplitMix64::seed_from_u64(seed))
    }

    /// From 0 to one less than `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n.max(1)
    }

    /// Once in `n` times.
    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of them; the type's default if there are none.
    pub fn of<T: Clone + Default>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64) as usize;
        all.get(at).cloned().unwrap_or_default()
    }
}

impl Space {
    /// The run of a seed.
    ///
    /// # Errors
    /// If what is the same in all runs is wrong, or allows none of what is drawn.
    pub fn draw(&self, seed: u64) -> Result<RunSpec, Error> {
        let mut chance = Chance::new(seed);
        let mut tried = None;
        for _ in 0..TRIES {
            let (origin, kernel) = (chance.of(&self.scenarios), chance.of(&self.kernels));
            let scenario = Scenario::load(&origin)?;
            let fixed: Vec<&str> = self.set.iter().map(|set| full_key(set)).collect();
            let mut settings = drawn(&mut chance, &scenario);
            settings.retain(|setting| !fixed.contains(&full_key(setting)));
            settings.extend(self.set.iter().cloned());
            match RunSpec::resolve(&origin, &kernel, self.engine, &settings) {
                Ok(spec) => return Ok(spec),
                Err(e) => tried = Some(e),
            }
        }
        Err(tried.unwrap_or_else(|| Error::Option {
            option: "explore".into(),
            why: "there is nothing to draw from".into(),
        }))
    }

    /// A run of each scenario on each kernel as they are.
    ///
    /// # Errors
    /// If one of them cannot be run at all.
    pub fn corners(&self) -> Result<Vec<RunSpec>, Error> {
        let mut all = Vec::new();
        for origin in &self.scenarios {
            for kernel in &self.kernels {
                all.push(RunSpec::resolve(origin, kernel, self.engine, &self.set)?);
            }
        }
        Ok(all)
    }
}

/// Settings by chance.
fn drawn(chance: &mut Chance, scenario: &Scenario) -> Vec<String> {
    let mut all = Vec::new();
    let mut set = |key: &str, value: String| all.push(format!("{key}={value}"));
    let policies = CachePolicy::ALL.map(|policy| names::name(&policy));
    set("seed", chance.0.next_u64().to_string());
    set("timeout-seconds", TIMEOUT.to_string());
    set("board.cache", chance.of(&policies));
    set("board.power-on", chance.of(&["dirty", "clean"]).into());
    set(
        "board.snoop-write",
        chance.of(&["write-through", "allocate"]).into(),
    );
    for master in ["dmac", "usb"] {
        set(
            &format!("board.{master}.port"),
            chance.of(&["hp", "hp", "hpc"]).into(),
        );
    }
    // One CPU half of the time, as hosts that break transfers off want one.
    let cpus = if chance.once_in(2) {
        1
    } else {
        1 + chance.below(4)
    };
    set("board.cpus", cpus.to_string());
    // With it, another seed is another order of what devices and CPUs do.
    let jitter = if chance.once_in(2) {
        0
    } else {
        chance.below(TICKS)
    };
    set("board.jitter-ticks", jitter.to_string());
    if let Some(test) = &scenario.dmatest {
        let most = u64::from(test.buffer_bytes).max(1);
        set("dmatest.iterations", (1 + chance.below(FRAMES)).to_string());
        set("dmatest.buffer-bytes", (1 + chance.below(most)).to_string());
    }
    if let Some(t) = &scenario.transfer {
        all.extend(of_transfer(chance, t, cpus == 1));
    }
    all
}

fn of_transfer(chance: &mut Chance, t: &Transfer, may_cut: bool) -> Vec<String> {
    let mut all = Vec::new();
    let mut set = |key: &str, value: String| all.push(format!("{key}={value}"));
    let frames = 1 + chance.below(FRAMES);
    let buffer = PAGE * (1 + chance.below(PAGES));
    let frame = frame(chance, buffer);
    set("transfer.frames", frames.to_string());
    set("transfer.buffers", (1 + chance.below(BUFFERS)).to_string());
    set("transfer.buffer-bytes", buffer.to_string());
    set("transfer.frame-bytes", frame.to_string());
    let last = if chance.once_in(2) {
        frame
    } else {
        self::frame(chance, frame)
    };
    set("transfer.last-frame-bytes", last.to_string());
    // That heap is one kernel's only.
    if t.exporter != Exporter::Iio {
        let exporters = [Exporter::System, Exporter::Udmabuf, Exporter::Cma];
        set(
            "transfer.exporter",
            chance.of(&exporters.map(Exporter::name)).into(),
        );
    }
    if [DataPath::IioToUsb, DataPath::UsbToIio].contains(&t.path) {
        set("transfer.usb-first", chance.once_in(2).to_string());
    }
    if t.path.uses_usb() {
        set("usb.speed", chance.of(&["super", "super", "high"]).into());
        // Until the last frame begins: a halt waits for the next transfer, and has to find one.
        let last = frame * (frames - 1);
        set("usb.incidents", incidents(chance, last, may_cut));
    }
    all
}

/// Bytes of a frame: where lines and pages end, a little beside that, or anywhere.
fn frame(chance: &mut Chance, most: u64) -> u64 {
    let steps = (most / FRAME_ALIGN).max(1);
    let near = |unit: u64, chance: &mut Chance| {
        let at = unit * (1 + chance.below((most / unit).max(1)));
        at + FRAME_ALIGN * chance.below(3) - FRAME_ALIGN
    };
    let bytes = match chance.below(4) {
        0 => most,
        1 => near(64, chance),
        2 => near(PAGE, chance),
        _ => FRAME_ALIGN * (1 + chance.below(steps)),
    };
    bytes.clamp(FRAME_ALIGN, steps * FRAME_ALIGN)
}

fn incidents(chance: &mut Chance, last: u64, may_cut: bool) -> String {
    let many = if chance.once_in(2) {
        0
    } else {
        chance.below(INCIDENTS + 1)
    };
    let mut after: Vec<u64> = (0..many).map(|_| chance.below(last + 1)).collect();
    after.sort_unstable();
    let one = |after: u64| {
        let ticks = 1 + chance.below(TICKS);
        let action = match if may_cut { chance.below(4) } else { 0 } {
            0 => format!("{{ pause = {{ ticks = {ticks} }} }}"),
            1 => "\"halt\"".to_owned(),
            2 => "\"reset\"".to_owned(),
            _ => format!("{{ disconnect = {{ ticks = {ticks} }} }}"),
        };
        format!("{{ after-bytes = {after}, action = {action} }}")
    };
    let all: Vec<String> = after.into_iter().map(one).collect();
    format!("[{}]", all.join(", "))
}
