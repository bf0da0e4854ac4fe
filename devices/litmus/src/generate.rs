// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Random small programs, from a seed.

use crate::program::{
    Barrier, Dc, Does, Event, Granules, Initial, Name, Observer, Op, Orders, Policy, Program,
    Scope, View,
};

/// What to draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Events, at most.
    pub events: usize,
    /// Lines, 1 or 2.
    pub lines: u8,
    /// CPUs, 1 or 2.
    pub cpus: u8,
    /// CPUs poll words, masters fetch ahead, and transfers may never be waited for.
    pub wild: bool,
}

/// A generator of random numbers (splitmix64): the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// By seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A random program of that shape.
pub fn program(shape: Shape, seed: u64) -> Program {
    let mut random = Random::new(seed);
    let lines = if shape.lines > 1 {
        1 + random.below(2) as u8
    } else {
        1
    };
    let mut draw = Draw {
        shape,
        lines,
        // All accesses use these: more would only repeat what they do.
        pieces: pieces(&mut random, lines),
        ports: [random.pick(&PORTS), random.pick(&PORTS)],
        random,
        symbols: vec!["0".to_owned(), "m0".to_owned()],
        events: Vec::new(),
        running: [false; 2],
        cpu: 0,
    };
    let mut initial = [Initial::default(); 64];
    let dirty = draw.random.once_in(3).then(|| draw.symbol("z0"));
    for g in 0..8 * lines {
        initial[usize::from(g)] = Initial {
            memory: 1,
            dirty: dirty.filter(|_| g < 8),
        };
    }
    while draw.events.len() < shape.events {
        draw.more();
    }
    draw.events.truncate(shape.events);
    Program {
        names: vec![Name {
            text: "A".to_owned(),
            first: 0,
            lines,
            cacheable: true,
        }],
        policy: draw.random.pick(&[Policy::WriteThrough, Policy::Allocate]),
        symbols: draw.symbols,
        initial,
        events: draw.events,
    }
}

/// How a master's reads and writes go to memory.
const PORTS: [[View; 2]; 4] = [
    [View::NonSnooping, View::NonSnooping],
    [View::Snooping, View::Snooping],
    [View::Snooping, View::NonSnooping],
    [View::NonSnooping, View::Snooping],
];

fn pieces(random: &mut Random, lines: u8) -> Vec<Granules> {
    let mut pieces = vec![Granules(0x0f), Granules(0xf0), Granules(0xff)];
    if lines > 1 {
        pieces.extend([Granules(0xf0f0), Granules(0xffff), Granules(0xff00)]);
        // A pair that crosses the line.
        pieces.push(Granules(0x0180));
    }
    if random.once_in(2) {
        pieces.push(Granules(0x01));
    }
    pieces
}

struct Draw {
    shape: Shape,
    random: Random,
    lines: u8,
    pieces: Vec<Granules>,
    ports: [[View; 2]; 2],
    symbols: Vec<String>,
    events: Vec<Event>,
    running: [bool; 2],
    cpu: u8,
}

impl Draw {
    fn symbol(&mut self, text: &str) -> u8 {
        self.symbols.push(text.to_owned());
        (self.symbols.len() - 1) as u8
    }

    fn by_cpu(&mut self, op: Op) {
        self.events.push(Event {
            by: Observer::Cpu(self.cpu),
            op,
        });
    }

    fn value(&mut self) -> Does {
        let number = self.symbols.len();
        Does::Write(self.symbol(&format!("v{number}")))
    }

    fn more(&mut self) {
        if self.shape.cpus > 1 && self.random.once_in(5) {
            let before = self.cpu;
            self.cpu = 1 - self.cpu;
            if !self.random.once_in(4) {
                self.by_cpu(Op::Acquire(before));
            }
        }
        match self.random.below(10) {
            0..=2 => self.cpu_access(),
            3 | 4 => self.maintenance(),
            5 | 6 => self.barrier(),
            _ => self.transfer(),
        }
    }

    fn cpu_access(&mut self) {
        let bytes = self.random.pick(&self.pieces);
        let view = if self.random.once_in(4) {
            View::NonCacheable
        } else {
            View::WriteBack
        };
        let does = if self.random.once_in(2) {
            Does::Read
        } else {
            self.value()
        };
        self.by_cpu(Op::Access { does, view, bytes });
    }

    fn maintenance(&mut self) {
        let some = [Dc::Cvac, Dc::Cvac, Dc::Ivac, Dc::Ivac, Dc::Civac, Dc::Zva];
        let mut op = self.random.pick(&some);
        // Zeros over zeros are no loss, which is not what is to be found out.
        if op.zeroes()
            && self
                .events
                .iter()
                .any(|e| matches!(&e.op, Op::Dc { op, .. } if op.zeroes()))
        {
            op = Dc::Civac;
        }
        let line = self.random.below(usize::from(self.lines)) as u8;
        self.by_cpu(Op::Dc { op, line });
    }

    fn barrier(&mut self) {
        let full = self.random.once_in(2);
        let orders = self
            .random
            .pick(&[Orders::Full, Orders::Stores, Orders::Loads]);
        let everyone = Scope::Everyone { outer: true };
        let scope = self
            .random
            .pick(&[everyone, everyone, everyone, Scope::Inner]);
        let completes = full || self.random.once_in(2);
        self.by_cpu(Op::Barrier(Barrier {
            completes,
            orders: if full { Orders::Full } else { orders },
            scope: if full { everyone } else { scope },
        }));
    }

    /// A doorbell with what the master then does, or the end of that.
    fn transfer(&mut self) {
        let d = self.random.below(2);
        let dev = d as u8;
        if self.running[d] {
            if !(self.shape.wild && self.random.once_in(4)) {
                self.by_cpu(Op::Wait(dev));
            }
            self.running[d] = false;
            return;
        }
        self.by_cpu(Op::Doorbell(dev));
        for _ in 0..=self.random.below(2) {
            let bytes = self.random.pick(&self.pieces);
            let write = self.random.once_in(2);
            let does = if write {
                self.value()
            } else if self.shape.wild && self.random.once_in(6) {
                Does::Prefetch
            } else {
                Does::Read
            };
            self.events.push(Event {
                by: Observer::Dev(dev),
                op: Op::Access {
                    does,
                    view: self.ports[d][usize::from(write)],
                    bytes,
                },
            });
        }
        self.running[d] = true;
        if self.random.once_in(2) {
            self.by_cpu(Op::Wait(dev));
            self.running[d] = false;
        }
    }
}
