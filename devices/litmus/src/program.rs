// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A case as data: names, initial contents, and the events of all observers in one list.
//!
//! Everything is small and bounded, so that sets of bytes, events and symbols are bit masks: a
//! *granule* is 8 bytes, a line 64, and a program has at most [`MAX_LINES`] lines.

use std::fmt::Write as _;

/// Bytes of a cache line.
pub const LINE: u32 = 64;
/// Bytes of the smallest unit that is told apart.
pub const GRANULE: u32 = 8;
/// Events of one program.
pub const MAX_EVENTS: usize = 24;
/// Names of one program.
pub const MAX_NAMES: usize = 4;
/// Lines of all names together.
pub const MAX_LINES: usize = 8;
/// Lines of one name.
pub const MAX_NAME_LINES: usize = 4;
/// CPUs, and masters.
pub const MAX_OBSERVERS: u8 = 4;
/// Symbols of one program, the zero of `dc zva` included.
pub const MAX_SYMBOLS: usize = 31;
/// Granules that are polled.
pub const MAX_POLLED: usize = 3;

/// A set of granules: bit 8 * line + number in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Granules(pub u64);

impl Granules {
    /// None.
    pub const NONE: Granules = Granules(0);

    /// The whole line of that number, below [`MAX_LINES`].
    pub fn line(line: u8) -> Self {
        Granules(0xff << (8 * u32::from(line & 7)))
    }

    /// One granule, by number.
    pub fn one(granule: u8) -> Self {
        Granules(1 << (granule & 63))
    }

    /// The numbers of all granules in it, upwards.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |g| self.has(*g))
    }

    /// The numbers of all lines it touches.
    pub fn lines(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |l| self.meets(Granules::line(*l)))
    }

    /// Whether the granule of that number is in it.
    pub fn has(self, granule: u8) -> bool {
        self.0 & Granules::one(granule).0 != 0
    }

    /// Whether there is a granule in both.
    pub fn meets(self, other: Granules) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in both.
    #[must_use]
    pub fn and(self, other: Granules) -> Self {
        Granules(self.0 & other.0)
    }

    /// Those in either.
    #[must_use]
    pub fn or(self, other: Granules) -> Self {
        Granules(self.0 | other.0)
    }

    /// Those in this one only.
    #[must_use]
    pub fn without(self, other: Granules) -> Self {
        Granules(self.0 & !other.0)
    }
}

/// A value, by its number in [`Program::symbols`].
pub type Symbol = u8;

/// What `dc zva` writes: the symbol `0`.
pub const ZERO: Symbol = 0;

/// A set of symbols: bit = number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Symbols(pub u32);

impl Symbols {
    /// Adds one.
    pub fn add(&mut self, symbol: Symbol) {
        self.0 |= 1 << (symbol & 31);
    }

    /// How many.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All, upwards.
    pub fn iter(self) -> impl Iterator<Item = Symbol> {
        (0..32).filter(move |s| self.0 >> s & 1 != 0)
    }
}

/// Who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Observer {
    /// A CPU.
    Cpu(u8),
    /// A bus master.
    Dev(u8),
}

impl std::fmt::Display for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Observer::Cpu(n) => write!(f, "cpu{n}"),
            Observer::Dev(n) => write!(f, "dev{n}"),
        }
    }
}

/// How an access goes to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// A CPU's, Normal write-back.
    WriteBack,
    /// A CPU's, Normal non-cacheable: the PoC only.
    NonCacheable,
    /// A CPU's, Normal write-through, which a Cortex-A53 treats as non-cacheable (DDI 0500, 6.2.4).
    WriteThrough,
    /// A master's that does not snoop: the PoC only.
    NonSnooping,
    /// A master's that snoops.
    Snooping,
}

impl View {
    /// The keyword.
    pub fn name(self) -> &'static str {
        match self {
            View::WriteBack => "wb",
            View::NonCacheable => "nc",
            View::WriteThrough => "wt",
            View::NonSnooping => "ns",
            View::Snooping => "snoop",
        }
    }

    /// Whether it sees what the caches hold.
    pub fn coherent(self) -> bool {
        matches!(self, View::WriteBack | View::Snooping)
    }
}

/// What an access does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Does {
    /// Reads.
    Read,
    /// Reads, not ordered behind anything (masters only).
    Prefetch,
    /// Reads until it reads this.
    Poll(Symbol),
    /// Writes this.
    Write(Symbol),
}

/// A `dc` operation by virtual address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dc {
    /// Clean to the PoC.
    Cvac,
    /// Invalidate to the PoC.
    Ivac,
    /// Both.
    Civac,
    /// Clean to the point of persistence, which is no nearer than the PoC.
    Cvap,
    /// Clean to the point of deep persistence, likewise.
    Cvadp,
    /// Clean to the point of unification: gives masters nothing.
    Cvau,
    /// Zero the line.
    Zva,
    /// Set the allocation tags of the line: no data.
    Gva,
    /// Zero the line and set its tags.
    Gzva,
}

impl Dc {
    /// All of them.
    pub const ALL: [Dc; 9] = [
        Dc::Cvac,
        Dc::Ivac,
        Dc::Civac,
        Dc::Cvap,
        Dc::Cvadp,
        Dc::Cvau,
        Dc::Zva,
        Dc::Gva,
        Dc::Gzva,
    ];

    /// The mnemonic.
    pub fn name(self) -> &'static str {
        match self {
            Dc::Cvac => "cvac",
            Dc::Ivac => "ivac",
            Dc::Civac => "civac",
            Dc::Cvap => "cvap",
            Dc::Cvadp => "cvadp",
            Dc::Cvau => "cvau",
            Dc::Zva => "zva",
            Dc::Gva => "gva",
            Dc::Gzva => "gzva",
        }
    }

    /// Whether it writes zeros: then it is a store, not maintenance.
    pub fn zeroes(self) -> bool {
        matches!(self, Dc::Zva | Dc::Gzva)
    }

    /// Whether it writes a dirty line to the PoC.
    pub fn cleans(self) -> bool {
        matches!(self, Dc::Cvac | Dc::Civac | Dc::Cvap | Dc::Cvadp)
    }

    /// Whether it drops the copy.
    pub fn invalidates(self) -> bool {
        matches!(self, Dc::Ivac | Dc::Civac)
    }
}

/// Which accesses a barrier orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Orders {
    /// All, and maintenance.
    Full,
    /// Stores against stores.
    Stores,
    /// Loads against loads and stores.
    Loads,
}

/// Which observers see the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The CPU itself.
    Own,
    /// The CPUs.
    Inner,
    /// The CPUs and the masters: outer shareable, or the full system.
    Everyone {
        /// Written as `osh...` rather than `sy`, `st` or `ld`.
        outer: bool,
    },
}

/// A DMB or DSB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Barrier {
    /// DSB.
    pub completes: bool,
    /// Its type.
    pub orders: Orders,
    /// Its domain.
    pub scope: Scope,
}

impl std::fmt::Display for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.completes { "dsb " } else { "dmb " })?;
        let access = match self.orders {
            Orders::Full => "",
            Orders::Stores => "st",
            Orders::Loads => "ld",
        };
        match (self.scope, self.orders) {
            (Scope::Own, _) => write!(f, "nsh{access}"),
            (Scope::Inner, _) => write!(f, "ish{access}"),
            (Scope::Everyone { outer: true }, _) => write!(f, "osh{access}"),
            (Scope::Everyone { outer: false }, Orders::Full) => f.write_str("sy"),
            (Scope::Everyone { outer: false }, _) => f.write_str(access),
        }
    }
}

/// What an observer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// An access to memory.
    Access {
        /// Direction.
        does: Does,
        /// Attribute.
        view: View,
        /// Bytes, all of one name.
        bytes: Granules,
    },
    /// Maintenance of one line, through the write-back alias.
    Dc {
        /// Which.
        op: Dc,
        /// Line.
        line: u8,
    },
    /// A barrier.
    Barrier(Barrier),
    /// A store that starts a master.
    Doorbell(u8),
    /// What the master did so far is done, and seen to be done.
    Wait(u8),
    /// A load-acquire of what that CPU store-released here.
    Acquire(u8),
    /// A transfer begins, as the device has it.
    Begin {
        /// Its name.
        id: String,
        /// `to`, `from`, `bidi`.
        direction: &'static str,
        /// Its memory.
        bytes: Granules,
    },
    /// A transfer ends.
    End {
        /// Its name.
        id: String,
    },
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who.
    pub by: Observer,
    /// What.
    pub op: Op,
}

impl Event {
    /// The bytes it accesses.
    pub fn bytes(&self) -> Granules {
        match &self.op {
            Op::Access { bytes, .. } => *bytes,
            Op::Dc { op, line } if op.zeroes() => Granules::line(*line),
            _ => Granules::NONE,
        }
    }

    /// What it writes, and how.
    pub fn write(&self) -> Option<(View, Symbol)> {
        match &self.op {
            Op::Access {
                does: Does::Write(value),
                view,
                ..
            } => Some((*view, *value)),
            Op::Dc { op, .. } if op.zeroes() => Some((View::WriteBack, ZERO)),
            _ => None,
        }
    }

    /// How it reads, if its value is not known beforehand.
    pub fn read(&self) -> Option<View> {
        match &self.op {
            Op::Access {
                does: Does::Read | Does::Prefetch,
                view,
                ..
            } => Some(*view),
            _ => None,
        }
    }

    /// What it polls for, and how.
    pub fn poll(&self) -> Option<(View, Symbol)> {
        match &self.op {
            Op::Access {
                does: Does::Poll(value),
                view,
                ..
            } => Some((*view, *value)),
            _ => None,
        }
    }

    /// The line it maintains (`dc zva` is a store).
    pub fn maintains(&self) -> Option<(Dc, u8)> {
        match &self.op {
            Op::Dc { op, line } if !op.zeroes() => Some((*op, *line)),
            _ => None,
        }
    }
}

/// What a snooping write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Cleans and invalidates cached copies and writes the PoC.
    WriteThrough,
    /// Merges in the cache, dirty.
    Allocate,
}

/// A piece of memory: consecutive lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// What it is called.
    pub text: String,
    /// Its first line.
    pub first: u8,
    /// How many lines.
    pub lines: u8,
    /// Whether caches may hold it.
    pub cacheable: bool,
}

impl Name {
    /// All its bytes.
    pub fn bytes(&self) -> Granules {
        (self.first..self.first + self.lines)
            .fold(Granules::NONE, |all, l| all.or(Granules::line(l)))
    }
}

/// What a granule holds at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Initial {
    /// At the PoC.
    pub memory: Symbol,
    /// In the cache, whose line is dirty.
    pub dirty: Option<Symbol>,
}

/// Everything there is to explore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Memory, by line upwards.
    pub names: Vec<Name>,
    /// Values by number; the first is `0`.
    pub symbols: Vec<String>,
    /// Initial contents of each granule.
    pub initial: [Initial; 64],
    /// What snooping writes do.
    pub policy: Policy,
    /// All events.
    pub events: Vec<Event>,
}

impl Program {
    /// Lines in use.
    pub fn lines(&self) -> u8 {
        self.names.iter().map(|n| n.lines).sum()
    }

    /// Whether the line may be cached.
    pub fn cacheable(&self, line: u8) -> bool {
        self.names
            .iter()
            .any(|n| n.cacheable && (n.first..n.first + n.lines).contains(&line))
    }

    /// Whether the line is dirty at first.
    pub fn dirty_at_first(&self, line: u8) -> bool {
        Granules::line(line)
            .iter()
            .any(|g| self.initial[usize::from(g)].dirty.is_some())
    }

    /// The name of a symbol.
    pub fn symbol(&self, symbol: Symbol) -> &str {
        self.symbols
            .get(usize::from(symbol))
            .map_or("?", String::as_str)
    }

    /// The names of all symbols of a set.
    pub fn values(&self, symbols: Symbols) -> Vec<String> {
        symbols.iter().map(|s| self.symbol(s).to_owned()).collect()
    }

    /// Granules that are polled.
    pub fn polled(&self) -> Granules {
        let polls = self.events.iter().filter(|e| e.poll().is_some());
        polls.fold(Granules::NONE, |all, e| all.or(e.bytes()))
    }

    /// A range as it is written, or several: `A+0..32, A+48..64`.
    pub fn ranges(&self, bytes: Granules) -> String {
        let mut text = String::new();
        for name in &self.names {
            let first = 8 * name.first;
            let last = first + 8 * name.lines;
            let mut g = first;
            while g < last {
                let start = g;
                while g < last && bytes.has(g) {
                    g += 1;
                }
                if g > start {
                    let at = |g: u8| u32::from(g - first) * GRANULE;
                    let comma = if text.is_empty() { "" } else { ", " };
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{comma}{}+{}..{}", name.text, at(start), at(g));
                }
                g = g.saturating_add(1);
            }
        }
        text
    }

    /// A line as it is written: `A+64`.
    pub fn line_name(&self, line: u8) -> String {
        let range = self.ranges(Granules::line(line));
        range.split("..").next().unwrap_or_default().to_owned()
    }

    /// An event as it is written.
    pub fn describe(&self, event: &Event) -> String {
        let by = event.by;
        match &event.op {
            Op::Access { does, view, bytes } => {
                let (view, range) = (view.name(), self.ranges(*bytes));
                let cpu = matches!(by, Observer::Cpu(_));
                match does {
                    Does::Read if cpu => format!("{by} load {view} {range}"),
                    Does::Read => format!("{by} read {view} {range}"),
                    Does::Prefetch => format!("{by} prefetch {view} {range}"),
                    Does::Poll(v) => format!("{by} poll {view} {range} == {}", self.symbol(*v)),
                    Does::Write(v) => {
                        let verb = if cpu { "store" } else { "write" };
                        format!("{by} {verb} {view} {range} = {}", self.symbol(*v))
                    }
                }
            }
            Op::Dc { op, line } => format!("{by} dc {} {}", op.name(), self.line_name(*line)),
            Op::Barrier(barrier) => format!("{by} {barrier}"),
            Op::Doorbell(dev) => format!("{by} doorbell dev{dev}"),
            Op::Wait(dev) => format!("{by} wait dev{dev}"),
            Op::Acquire(cpu) => format!("{by} acquire cpu{cpu}"),
            Op::Begin {
                id,
                direction,
                bytes,
            } => format!("{by} begin {id} {direction} {}", self.ranges(*bytes)),
            Op::End { id } => format!("{by} end {id}"),
        }
    }

    /// The same with one more event, before the one at `at`.
    #[must_use]
    pub fn with(&self, at: usize, event: Event) -> Self {
        let mut program = self.clone();
        program.events.insert(at.min(self.events.len()), event);
        program
    }
}
