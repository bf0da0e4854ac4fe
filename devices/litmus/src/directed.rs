// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Random small programs as drivers have them, with one mistake. Transfers take their time: a master
//! acts long after it was told to, two are at work at once, and a CPU goes on meanwhile.
//!
//! In a program with many mistakes one hides what another does; here a rule that misses one stands
//! alone.

use crate::generate::Random;
use crate::order::Parts;
use crate::program::{
    Barrier, Dc, Does, Event, Granules, Initial, MAX_SYMBOLS, Name, Observer, Op, Orders, Policy,
    Program, Scope, Symbol, View,
};

/// Events after which a program comes to its end.
const EVENTS: usize = 8;

/// How a master's reads and writes go to memory.
const PORTS: [[View; 2]; 5] = [
    [View::NonSnooping, View::NonSnooping],
    [View::NonSnooping, View::NonSnooping],
    [View::Snooping, View::Snooping],
    [View::Snooping, View::NonSnooping],
    [View::NonSnooping, View::Snooping],
];

const EVERYONE: Scope = Scope::Everyone { outer: false };

const DSB_SY: Barrier = Barrier {
    completes: true,
    orders: Orders::Full,
    scope: EVERYONE,
};

/// A random program over one line, or seldom with a second one beside it.
pub fn program(seed: u64) -> Program {
    // Not the numbers that other generators draw.
    let mut random = Random::new(seed ^ 0x6469_7265_6374_6564);
    let lines = 1 + u8::from(random.once_in(8));
    let line = random.below(usize::from(lines)) as u8;
    let policy = random.pick(&[Policy::WriteThrough, Policy::Allocate]);
    let mut driver = Driver {
        ports: [random.pick(&PORTS), random.pick(&PORTS)],
        aliases: random.once_in(3),
        allocates: policy == Policy::Allocate,
        line,
        random,
        symbols: vec!["0".to_owned(), "m0".to_owned()],
        events: Vec::new(),
        dirty: false,
        stale: false,
    };
    driver.dirty = driver.random.once_in(3);
    let dirty = driver.dirty.then(|| driver.symbol());
    let mut initial = [Initial::default(); 64];
    for g in 0..8 * lines {
        let dirty = dirty.filter(|_| Granules::line(line).has(g));
        initial[usize::from(g)] = Initial { memory: 1, dirty };
    }
    while driver.events.len() < EVENTS && driver.symbols.len() + 6 < MAX_SYMBOLS {
        driver.step();
    }
    driver.load();
    let mistakes = [0, 1, 1, 1, 1, 1, 1, 2];
    for _ in 0..driver.random.pick(&mistakes) {
        driver.mistake();
    }
    let mut program = Program {
        policy,
        names: vec![Name {
            text: "A".to_owned(),
            first: 0,
            lines,
            cacheable: true,
        }],
        symbols: driver.symbols,
        initial,
        events: driver.events,
    };
    delay(&mut program, &mut driver.random);
    program
}

/// Masters act later than they might: which is the same program, seen in another order.
fn delay(program: &mut Program, random: &mut Random) {
    for i in (0..program.events.len()).rev() {
        if matches!(program.events[i].by, Observer::Cpu(_)) {
            continue;
        }
        let order = Parts::of(program).on(u8::MAX);
        let behind = (i + 1..program.events.len()).take_while(|j| !order.is_before(i, *j));
        let later = random.below(behind.count() + 1);
        let event = program.events.remove(i);
        program.events.insert(i + later, event);
    }
}

/// A driver, and the CPU it runs on.
struct Driver {
    random: Random,
    line: u8,
    ports: [[View; 2]; 2],
    /// Writes of masters that snoop stay in the cache.
    allocates: bool,
    /// The CPU uses a non-cacheable alias too.
    aliases: bool,
    symbols: Vec<String>,
    events: Vec<Event>,
    /// The line may be dirty.
    dirty: bool,
    /// Copies of the line may be older than the PoC.
    stale: bool,
}

impl Driver {
    fn symbol(&mut self) -> Symbol {
        let number = self.symbols.len();
        self.symbols.push(format!("v{number}"));
        number as Symbol
    }

    fn by_cpu(&mut self, op: Op) {
        let by = Observer::Cpu(0);
        self.events.push(Event { by, op });
    }

    fn dc(&mut self, ops: &[Dc]) {
        let op = self.random.pick(ops);
        let line = self.line;
        self.by_cpu(Op::Dc { op, line });
    }

    fn dsb(&mut self) {
        self.by_cpu(Op::Barrier(DSB_SY));
    }

    fn piece(&mut self) -> Granules {
        let pattern = self.random.pick(&[0x0f_u64, 0xf0, 0xff, 0xff, 0x01]);
        Granules(pattern << (8 * u32::from(self.line)))
    }

    fn access(&mut self, by: Observer, view: View, write: bool, bytes: Granules) {
        let does = if write {
            Does::Write(self.symbol())
        } else {
            Does::Read
        };
        let op = Op::Access { does, view, bytes };
        self.events.push(Event { by, op });
    }

    fn cpu_access(&mut self, view: View, write: bool) {
        let bytes = self.piece();
        self.access(Observer::Cpu(0), view, write, bytes);
    }

    fn view(&mut self) -> View {
        if self.aliases && self.random.once_in(2) {
            View::NonCacheable
        } else {
            View::WriteBack
        }
    }

    /// Before the cache is used.
    fn for_cache(&mut self) {
        if self.stale {
            self.dc(&[Dc::Ivac, Dc::Ivac, Dc::Civac]);
            self.stale = false;
        }
    }

    /// Before the PoC is used.
    fn for_poc(&mut self) {
        if self.dirty {
            self.dc(&[Dc::Cvac, Dc::Cvac, Dc::Civac]);
            self.dsb();
            self.dirty = false;
        }
    }

    fn load(&mut self) {
        let view = self.view();
        match view {
            View::NonCacheable => self.for_poc(),
            _ => self.for_cache(),
        }
        self.cpu_access(view, false);
    }

    fn store(&mut self) {
        let view = self.view();
        if view == View::NonCacheable {
            self.for_poc();
            self.cpu_access(view, true);
            self.dsb();
            self.stale = true;
        } else {
            self.for_cache();
            self.cpu_access(view, true);
            self.dirty = true;
        }
    }

    /// What masters are about to do, the CPU makes the line ready for.
    fn tell(&mut self, masters: &[(usize, Vec<bool>)]) {
        let view = |d: usize, write: bool| self.ports[d][usize::from(write)];
        let mut views = masters
            .iter()
            .flat_map(|(d, all)| all.iter().map(|write| view(*d, *write)));
        let (mut cache, mut poc) = (false, false);
        for view in &mut views {
            cache |= view == View::Snooping;
            poc |= view == View::NonSnooping;
        }
        let before = self.events.len();
        if poc {
            self.for_poc();
        }
        if cache {
            self.for_cache();
        }
        if self.random.once_in(3) && before == self.events.len() {
            self.by_cpu(Op::Barrier(Barrier {
                completes: false,
                orders: Orders::Stores,
                scope: EVERYONE,
            }));
        } else {
            self.dsb();
        }
        for (d, _) in masters {
            self.by_cpu(Op::Doorbell(*d as u8));
        }
    }

    fn act(&mut self, d: usize, write: bool, bytes: Granules) {
        let view = self.ports[d][usize::from(write)];
        self.access(Observer::Dev(d as u8), view, write, bytes);
        if write {
            let allocated = view == View::Snooping && self.allocates;
            self.dirty |= allocated;
            self.stale |= view == View::NonSnooping;
        }
    }

    /// One master makes a transfer or two.
    fn transfer(&mut self) {
        let d = self.random.below(2);
        let count = 1 + usize::from(self.random.once_in(3));
        let accesses: Vec<bool> = (0..count).map(|_| self.random.once_in(2)).collect();
        self.tell(&[(d, accesses.clone())]);
        for write in accesses {
            let bytes = self.piece();
            self.act(d, write, bytes);
        }
        self.by_cpu(Op::Wait(d as u8));
    }

    /// Both masters are at work at a time.
    fn transfers(&mut self) {
        let writes = [self.random.once_in(2), self.random.once_in(2)];
        self.tell(&[(0, vec![writes[0]]), (1, vec![writes[1]])]);
        let shift = 8 * u32::from(self.line);
        let mut pieces = [Granules(0x0f << shift), Granules(0xf0 << shift)];
        if self.random.once_in(3) {
            pieces[0] = Granules::line(self.line);
        }
        let first = self.random.below(2);
        for d in [first, 1 - first] {
            self.act(d, writes[d], pieces[d]);
            // The next one may go on while the CPU knows that this one is done.
            if self.random.once_in(2) {
                self.by_cpu(Op::Wait(d as u8));
            }
        }
        for d in [first, 1 - first] {
            if !self.events.iter().rev().any(|e| e.op == Op::Wait(d as u8)) {
                self.by_cpu(Op::Wait(d as u8));
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(8) {
            0 | 1 => self.store(),
            2 => self.load(),
            3 | 4 => self.transfers(),
            _ => self.transfer(),
        }
    }

    /// Something that the CPU does is left out, done at another time, otherwise, or on top.
    fn mistake(&mut self) {
        let last = self.events.len() - 1;
        let at = self.random.below(last);
        let cpus = |e: &Event| matches!(e.by, Observer::Cpu(_)) && !matches!(e.op, Op::Doorbell(_));
        let kind = self.random.below(8);
        if kind < 2 {
            // Nothing that anybody needs to have done before.
            self.on_top(at);
            return;
        }
        if !cpus(&self.events[at]) {
            return self.mistake_at_next(at);
        }
        self.spoil(at, kind);
    }

    /// The same at the next event of the CPU's.
    fn mistake_at_next(&mut self, at: usize) {
        let own = |e: &Event| matches!(e.by, Observer::Cpu(_)) && !matches!(e.op, Op::Doorbell(_));
        let next = (at..self.events.len() - 1).find(|n| own(&self.events[*n]));
        if let Some(next) = next {
            let kind = 2 + self.random.below(6);
            self.spoil(next, kind);
        }
    }

    fn spoil(&mut self, at: usize, kind: usize) {
        let views = [View::WriteBack, View::NonCacheable];
        let aliases = self.aliases;
        match (&mut self.events[at].op, kind) {
            (Op::Barrier(barrier), 2 | 3) => {
                barrier.completes &= self.random.once_in(2);
                if self.random.once_in(2) {
                    barrier.orders = self.random.pick(&[Orders::Stores, Orders::Loads]);
                } else {
                    barrier.scope = Scope::Inner;
                }
            }
            (Op::Dc { op, .. }, 2) => *op = self.random.pick(&[Dc::Cvac, Dc::Ivac, Dc::Civac]),
            (Op::Access { view, .. }, 2 | 3) if aliases => *view = self.random.pick(&views),
            (_, 4 | 5) => {
                let event = self.events.remove(at);
                let to = self.random.below(self.events.len());
                self.events.insert(to, event);
            }
            _ => {
                self.events.remove(at);
            }
        }
    }

    fn on_top(&mut self, at: usize) {
        let before = self.events.len();
        match self.random.below(4) {
            0 => self.dc(&[Dc::Cvac, Dc::Ivac, Dc::Civac]),
            1 => {
                let view = self.view();
                self.cpu_access(view, false);
            }
            _ => {
                let view = self.view();
                self.cpu_access(view, true);
            }
        }
        let more = self.events.split_off(before);
        self.events.splice(at..at, more);
    }
}
