// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Random small programs, from a seed.

use std::ffi::OsStr;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::program::{
    Barrier, Dc, Does, Event, Granules, Initial, MAX_SYMBOLS, Name, Observer, Op, Orders, Policy,
    Program, Scope, Symbol, View,
};

/// A variable of the environment that should hold a number, and does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: expected a number, found `{found}`")]
pub struct NotANumber {
    /// The variable.
    pub variable: String,
    /// What it holds.
    pub found: String,
}

/// What a variable of the environment sets for a run over random programs, such as how many and
/// from which seed on; `otherwise` if it is not there.
///
/// # Errors
/// If it holds something else: a run over other programs than those asked for says nothing.
pub fn setting(variable: &str, otherwise: u64) -> Result<u64, NotANumber> {
    number(variable, std::env::var_os(variable).as_deref(), otherwise)
}

fn number(variable: &str, given: Option<&OsStr>, otherwise: u64) -> Result<u64, NotANumber> {
    let Some(given) = given else {
        return Ok(otherwise);
    };
    let number = given.to_str().and_then(|n| n.parse().ok());
    number.ok_or_else(|| NotANumber {
        variable: variable.to_owned(),
        found: given.to_string_lossy().into_owned(),
    })
}

/// What to draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Events, at most.
    pub events: usize,
    /// Lines, 1 or 2: of one name, or two of one line each.
    pub lines: u8,
    /// CPUs, 1 or 2.
    pub cpus: u8,
    /// Memory is handed over, and back, by words that are polled too, not by doorbells alone.
    pub words: bool,
    /// Masters fetch ahead, and transfers may never be waited for.
    pub wild: bool,
    /// Masters also act that nobody has told to.
    pub unprompted: bool,
}

/// A generator of random numbers, the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(SplitMix64);

impl Random {
    /// By seed.
    pub fn new(seed: u64) -> Self {
        Random(SplitMix64::seed_from_u64(seed))
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A random program of that shape. No poll is for a value that nobody has written further up.
pub fn program(shape: Shape, seed: u64) -> Program {
    let mut random = Random::new(seed);
    let lines = if shape.lines > 1 {
        1 + random.below(2) as u8
    } else {
        1
    };
    let two_names = lines == 2 && random.once_in(2);
    // Seldom, no cache may hold it.
    let mut name = |text: &str, first, lines| Name {
        text: text.to_owned(),
        first,
        lines,
        cacheable: !random.once_in(8),
    };
    let names = if two_names {
        vec![name("A", 0, 1), name("D", 1, 1)]
    } else {
        vec![name("A", 0, lines)]
    };
    // The last word of all.
    let word = (shape.words && random.once_in(2)).then(|| 8 * lines - 1);
    let mut draw = Draw {
        shape,
        // All accesses use these: more would only repeat what they do.
        pieces: pieces(&mut random, &names, word),
        ports: [random.pick(&PORTS), random.pick(&PORTS)],
        word,
        word_view: random.pick(&[View::NonCacheable, View::NonCacheable, View::WriteBack]),
        names,
        random,
        symbols: vec!["0".to_owned(), "m0".to_owned()],
        events: Vec::new(),
        running: [None; 2],
        cpu: 0,
    };
    let mut initial = [Initial::default(); 64];
    let first = draw.names.first().is_some_and(|n| n.cacheable);
    let dirty = (first && draw.random.once_in(3)).then(|| draw.symbol("z0"));
    for g in 0..8 * lines {
        initial[usize::from(g)] = Initial {
            memory: 1,
            dirty: dirty.filter(|_| g < 8),
        };
    }
    while draw.events.len() < shape.events && draw.symbols.len() + 4 < MAX_SYMBOLS {
        draw.more();
    }
    draw.events.truncate(shape.events);
    Program {
        policy: draw.random.pick(&[Policy::WriteThrough, Policy::Allocate]),
        names: draw.names,
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

/// Pieces of memory for data: each of one name, none with the word that is polled.
fn pieces(random: &mut Random, names: &[Name], word: Option<u8>) -> Vec<Granules> {
    let word = word.map_or(Granules::NONE, Granules::one);
    let mut pieces = Vec::new();
    for name in names {
        let at = |pattern: u64| Granules(pattern << (8 * u32::from(name.first)));
        pieces.extend([at(0x0f), at(0xf0), at(0xff)]);
        if name.lines > 1 {
            pieces.extend([at(0xf0f0), at(0xffff), at(0xff00)]);
            // A pair that crosses the line.
            pieces.push(at(0x0180));
        }
        if random.once_in(2) {
            pieces.push(at(0x01));
        }
    }
    for piece in &mut pieces {
        *piece = piece.without(word);
    }
    pieces
}

/// How a transfer that runs will be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    /// By a wait.
    Wait,
    /// By a word that has this value.
    Word(Symbol),
}

struct Draw {
    shape: Shape,
    random: Random,
    names: Vec<Name>,
    pieces: Vec<Granules>,
    ports: [[View; 2]; 2],
    /// The granule that is polled.
    word: Option<u8>,
    /// How the CPU accesses that.
    word_view: View,
    symbols: Vec<String>,
    events: Vec<Event>,
    running: [Option<Running>; 2],
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

    /// Whether caches may hold all of it.
    fn cacheable(&self, bytes: Granules) -> bool {
        let not = self.names.iter().filter(|n| !n.cacheable);
        !not.fold(Granules::NONE, |all, n| all.or(n.bytes()))
            .meets(bytes)
    }

    fn cpu_access(&mut self) {
        let bytes = self.random.pick(&self.pieces);
        let view = match self.random.below(8) {
            0 => View::NonCacheable,
            1 => self.random.pick(&[View::NonCacheable, View::WriteThrough]),
            _ if self.cacheable(bytes) => View::WriteBack,
            _ => View::NonCacheable,
        };
        let does = if self.random.once_in(2) {
            Does::Read
        } else {
            self.value()
        };
        self.by_cpu(Op::Access { does, view, bytes });
    }

    fn maintenance(&mut self) {
        let mut op = match self.random.below(8) {
            0 | 1 => Dc::Cvac,
            2 | 3 => Dc::Ivac,
            4 => Dc::Civac,
            5 => Dc::Zva,
            _ => self.random.pick(&Dc::ALL),
        };
        // Zeros over zeros are no loss, which is not what is to be found out; nor what becomes of a
        // word that is overwritten.
        let zeroed = |e: &Event| matches!(&e.op, Op::Dc { op, .. } if op.zeroes());
        if op.zeroes() && (self.word.is_some() || self.events.iter().any(zeroed)) {
            op = Dc::Civac;
        }
        let lines = self.names.iter().map(|n| n.lines).sum::<u8>();
        let line = self.random.below(usize::from(lines)) as u8;
        if self.cacheable(Granules::line(line)) {
            self.by_cpu(Op::Dc { op, line });
        }
    }

    fn barrier(&mut self) {
        let everyone = Scope::Everyone { outer: true };
        let barrier = |completes, orders, scope| Barrier {
            completes,
            orders,
            scope,
        };
        let all = [Orders::Full, Orders::Stores, Orders::Loads];
        let scopes = [
            everyone,
            Scope::Everyone { outer: false },
            Scope::Inner,
            Scope::Own,
        ];
        let it = match self.random.below(8) {
            0..=3 => barrier(true, Orders::Full, everyone),
            4 | 5 => barrier(false, self.random.pick(&all), everyone),
            _ => barrier(
                self.random.once_in(2),
                self.random.pick(&all),
                self.random.pick(&scopes),
            ),
        };
        self.by_cpu(Op::Barrier(it));
    }

    /// A transfer begins, or ends.
    fn transfer(&mut self) {
        let d = self.random.below(2);
        match self.running[d] {
            Some(running) => {
                if !(self.shape.wild && self.random.once_in(4)) {
                    self.wait(d as u8, running);
                }
                self.running[d] = None;
            }
            None => self.start(d),
        }
    }

    fn wait(&mut self, dev: u8, running: Running) {
        let poll = |word, value, view| Op::Access {
            does: Does::Poll(value),
            view,
            bytes: Granules::one(word),
        };
        match (running, self.word) {
            (Running::Word(value), Some(word)) => self.by_cpu(poll(word, value, self.word_view())),
            _ => self.by_cpu(Op::Wait(dev)),
        }
    }

    fn word_view(&self) -> View {
        let word = self.word.map_or(Granules::NONE, Granules::one);
        if self.cacheable(word) {
            self.word_view
        } else {
            View::NonCacheable
        }
    }

    /// A doorbell, or a word that is stored and polled, or nothing at all, with what the master then does.
    fn start(&mut self, d: usize) {
        let dev = d as u8;
        let by = Observer::Dev(dev);
        // Of two that use it at a time, the word would be overwritten.
        let free = !self
            .running
            .iter()
            .any(|r| matches!(r, Some(Running::Word(_))));
        let word = self.word.filter(|_| free && !self.random.once_in(3));
        match word {
            Some(word) => {
                let Does::Write(value) = self.value() else {
                    return;
                };
                let bytes = Granules::one(word);
                let view = self.word_view();
                let does = Does::Write(value);
                self.by_cpu(Op::Access { does, view, bytes });
                let (does, view) = (Does::Poll(value), self.ports[d][0]);
                let op = Op::Access { does, view, bytes };
                self.events.push(Event { by, op });
            }
            None if self.shape.unprompted && self.random.once_in(2) => {}
            None => self.by_cpu(Op::Doorbell(dev)),
        }
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
            let view = self.ports[d][usize::from(write)];
            let op = Op::Access { does, view, bytes };
            self.events.push(Event { by, op });
        }
        let mut running = Running::Wait;
        if let Some(word) = self.word.filter(|_| free && self.random.once_in(2))
            && let Does::Write(value) = self.value()
        {
            let op = Op::Access {
                does: Does::Write(value),
                view: self.ports[d][1],
                bytes: Granules::one(word),
            };
            self.events.push(Event { by, op });
            running = Running::Word(value);
        }
        self.running[d] = Some(running);
        if self.random.once_in(2) {
            self.wait(dev, running);
            self.running[d] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_holds_no_number_is_named() {
        let given = |text: &str| number("STALELINE_LITMUS_SEED", Some(OsStr::new(text)), 7);
        assert_eq!(number("STALELINE_LITMUS_SEED", None, 7), Ok(7));
        assert_eq!(given("200000"), Ok(200_000));
        for text in ["abc", "", "-1", "1e6", "2 0", "18446744073709551616"] {
            let error = given(text).map_err(|e| e.to_string());
            let told = format!("STALELINE_LITMUS_SEED: expected a number, found `{text}`");
            assert_eq!(error, Err(told));
        }
    }
}
