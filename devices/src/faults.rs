// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Faults: what is to go wrong on purpose, each at a point of the run that is the same every time.
//!
//! A fault of a CPU's (an operation or a barrier) makes another program of the guest's, and the sanitizer judges
//! that. One of the chip's (an interrupt, an access of a master, a bit) is none of software's, and nobody promises
//! that the sanitizer finds it; whoever consumes the data may.
//!
//! In text, a fault is `CLASS@N:HOW`, where N counts from 1 since power-on: `drop@17`, `delay@17:start`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cpu::{Barrier, BarrierAccess, BarrierKind, BarrierScope, CacheOp};

/// Most faults of one run.
pub const MAX_FAULTS: usize = 64;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fault {
    /// Of the maintenance operation of that number.
    Operation(u32, OperationFault),
    /// Of the barrier of that number, of those that the engine tells of.
    Barrier(u32, BarrierFault),
    /// Of the interrupt of that number, counted when a device raises its line.
    Interrupt(u32, InterruptFault),
    /// Of the access to memory of that number, of all masters.
    Access(u32, AccessFault),
    /// Of the USB host's transfer of that number, before it begins; of those that move data.
    Host(u32, HostFault),
}

/// What goes wrong with a maintenance operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationFault {
    /// It is not done.
    Drop,
    /// It is done later, as another one.
    Delay(Until),
    /// Some of its lines are left out, in the order in which it does them.
    Skip {
        /// The first, from 0.
        from: u32,
        /// How many.
        count: u32,
    },
    /// The line before its first is done, too.
    WidenBefore,
    /// The line behind its last is done, too, just before the barrier that ends it.
    WidenAfter,
    /// Something else is done to its lines.
    As(CacheOp),
}

/// Up to when an operation is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// The CPU's next DSB.
    Barrier,
    /// A device has taken up a transfer of some of its lines.
    Start,
    /// Such a transfer is over.
    End,
}

/// What goes wrong with a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BarrierFault {
    /// It is not there.
    Removed,
    /// It is a DMB: nothing is complete after it.
    Dmb,
    /// It is for the CPUs of the cluster only (`ish`).
    Inner,
    /// It is for stores only (`st`).
    Stores,
    /// It is for loads only (`ld`).
    Loads,
}

impl BarrierFault {
    /// What there is in the place of a barrier, if anything.
    #[must_use]
    pub fn applied(self, barrier: Barrier) -> Option<Barrier> {
        match self {
            BarrierFault::Removed => None,
            BarrierFault::Dmb => Some(Barrier {
                kind: BarrierKind::Dmb,
                ..barrier
            }),
            BarrierFault::Inner => Some(Barrier {
                scope: BarrierScope::Inner.min(barrier.scope),
                ..barrier
            }),
            BarrierFault::Stores => Some(Barrier {
                access: BarrierAccess::Store,
                ..barrier
            }),
            BarrierFault::Loads => Some(Barrier {
                access: BarrierAccess::Load,
                ..barrier
            }),
        }
    }
}

/// What goes wrong with an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterruptFault {
    /// The line does not go up; when the device lowers and raises it again, that is the next interrupt.
    Lost,
    /// The line goes up so many ticks later, unless the device has lowered it by then.
    Late(u32),
    /// Its line, which is this one, goes up for a while after the device's first access to memory since the
    /// interrupt before, when nothing is done yet. Which line it is cannot be known before it comes.
    Early(u8),
    /// It goes up once more when it has fallen, for no reason.
    Twice,
}

/// What a USB host does to a device that does not expect it, and has to live with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostFault {
    /// Sets the endpoint's halt feature, and clears it.
    Halt,
    /// Resets the bus.
    Reset,
    /// Unplugs the device for so many ticks.
    Disconnect(u32),
    /// Has room for less than the device sends (babble), and recovers as hosts do: clears the endpoint's halt.
    Babble,
}

/// What goes wrong with an access of a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessFault {
    /// It is answered with a bus error.
    Error,
    /// It does not snoop, whatever it asks for.
    Unsnooped,
    /// A write that crosses a line: what is behind the border comes as with [`Hold::End`].
    Torn,
    /// A write comes later.
    Held(Hold),
    /// Before it, a bit of the memory that it accesses changes.
    Flip {
        /// In the caches, if they hold the line; else in the memory below them, and what they hold stays.
        cache: bool,
        /// Which, from the access' first; beyond its end, from its start again.
        bit: u32,
    },
}

/// Up to when a write is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// The master's next access: the two come in the wrong order.
    Next,
    /// The transfer it is of is over, and its device has told of that; as [`Hold::Next`] if it is of none.
    End,
    /// So many ticks have gone by.
    Ticks(u32),
}

impl Fault {
    /// What it is about, for all such faults: the text without numbers.
    pub fn class(self) -> &'static str {
        match self {
            Fault::Operation(_, what) => match what {
                OperationFault::Drop => "drop",
                OperationFault::Delay(Until::Barrier) => "delay:barrier",
                OperationFault::Delay(Until::Start) => "delay:start",
                OperationFault::Delay(Until::End) => "delay:end",
                OperationFault::Skip { .. } => "skip",
                OperationFault::WidenBefore => "widen:before",
                OperationFault::WidenAfter => "widen:after",
                OperationFault::As(CacheOp::Clean) => "as:clean",
                OperationFault::As(CacheOp::Invalidate) => "as:invalidate",
                OperationFault::As(CacheOp::CleanInvalidate) => "as:clean-invalidate",
            },
            Fault::Barrier(_, what) => match what {
                BarrierFault::Removed => "barrier:removed",
                BarrierFault::Dmb => "barrier:dmb",
                BarrierFault::Inner => "barrier:inner",
                BarrierFault::Stores => "barrier:stores",
                BarrierFault::Loads => "barrier:loads",
            },
            Fault::Interrupt(_, what) => match what {
                InterruptFault::Lost => "irq:lost",
                InterruptFault::Late(_) => "irq:late",
                InterruptFault::Early(_) => "irq:early",
                InterruptFault::Twice => "irq:twice",
            },
            Fault::Access(_, what) => match what {
                AccessFault::Error => "beat:error",
                AccessFault::Unsnooped => "beat:unsnooped",
                AccessFault::Torn => "beat:torn",
                AccessFault::Held(Hold::Next) => "beat:after-next",
                AccessFault::Held(Hold::End) => "beat:after-end",
                AccessFault::Held(Hold::Ticks(_)) => "beat:late",
                AccessFault::Flip { cache: true, .. } => "flip:cache",
                AccessFault::Flip { cache: false, .. } => "flip:memory",
            },
            Fault::Host(_, what) => match what {
                HostFault::Halt => "host:halt",
                HostFault::Reset => "host:reset",
                HostFault::Disconnect(_) => "host:disconnect",
                HostFault::Babble => "host:babble",
            },
        }
    }

    /// Whether it makes another program of the guest's, which is the sanitizer's to judge.
    pub fn is_software(self) -> bool {
        matches!(self, Fault::Operation(..) | Fault::Barrier(..))
    }

    /// Whether it happens at the other end of the USB cable: nothing on the board is wrong then, and software has
    /// to live through it.
    pub fn is_hosts(self) -> bool {
        matches!(self, Fault::Host(..))
    }

    /// Where it is, among all of its kind.
    pub fn number(self) -> u32 {
        let (Fault::Operation(number, _)
        | Fault::Barrier(number, _)
        | Fault::Interrupt(number, _)
        | Fault::Access(number, _)
        | Fault::Host(number, _)) = self;
        number
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class();
        let (kind, how) = class.split_once(':').unwrap_or((class, ""));
        write!(f, "{kind}@{}", self.number())?;
        match *self {
            Fault::Operation(_, OperationFault::Skip { from, count }) => {
                write!(f, ":{from}+{count}")
            }
            Fault::Interrupt(_, InterruptFault::Early(line)) => write!(f, ":{how}+{line}"),
            Fault::Interrupt(_, InterruptFault::Late(more))
            | Fault::Host(_, HostFault::Disconnect(more))
            | Fault::Access(_, AccessFault::Held(Hold::Ticks(more)))
            | Fault::Access(_, AccessFault::Flip { bit: more, .. }) => write!(f, ":{how}+{more}"),
            _ if how.is_empty() => Ok(()),
            _ => write!(f, ":{how}"),
        }
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> String {
        fault.to_string()
    }
}

impl TryFrom<String> for Fault {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What may come behind `CLASS@N`.
const HOW: &[(&str, &str)] = &[
    ("drop", ""),
    ("delay", ":barrier, :start or :end"),
    ("skip", ":FROM+COUNT"),
    ("widen", ":before or :after"),
    ("as", ":clean, :invalidate or :clean-invalidate"),
    ("barrier", ":removed, :dmb, :inner, :stores or :loads"),
    ("irq", ":lost, :twice, :late+TICKS or :early+LINE"),
    (
        "beat",
        ":error, :unsnooped, :torn, :after-next, :after-end or :late+TICKS",
    ),
    ("flip", ":cache+BIT or :memory+BIT"),
    ("host", ":halt, :reset, :babble or :disconnect+TICKS"),
];

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = || {
            HOW.iter()
                .map(|(kind, _)| *kind)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let form = || {
            format!(
                "`{text}` is no fault: expected CLASS@N, with a CLASS of {}",
                kinds()
            )
        };
        let (kind, rest) = text.split_once('@').ok_or_else(form)?;
        let (number, how) = rest.split_once(':').unwrap_or((rest, ""));
        let (_, known) = HOW.iter().find(|(k, _)| *k == kind).ok_or_else(form)?;
        let n = positive(number)
            .ok_or_else(|| format!("`{text}` is no fault: N of {kind}@N is a number from 1 on"))?;
        let (how, more) = how
            .split_once('+')
            .map_or((how, None), |(how, more)| (how, Some(more)));
        let fault = match more {
            None => plain(kind, how, n),
            Some(more) => more
                .parse()
                .ok()
                .and_then(|more| counted(kind, how, more, n)),
        };
        fault.ok_or_else(|| match *known {
            "" => format!("`{text}` is no fault: nothing comes behind {kind}@N"),
            known => format!("`{text}` is no fault: {kind}@N is followed by {known}"),
        })
    }
}

fn positive(digits: &str) -> Option<u32> {
    let number = digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())?;
    number.filter(|n| *n > 0)
}

fn plain(kind: &str, how: &str, n: u32) -> Option<Fault> {
    Some(match (kind, how) {
        ("drop", "") => Fault::Operation(n, OperationFault::Drop),
        ("delay", "barrier") => Fault::Operation(n, OperationFault::Delay(Until::Barrier)),
        ("delay", "start") => Fault::Operation(n, OperationFault::Delay(Until::Start)),
        ("delay", "end") => Fault::Operation(n, OperationFault::Delay(Until::End)),
        ("widen", "before") => Fault::Operation(n, OperationFault::WidenBefore),
        ("widen", "after") => Fault::Operation(n, OperationFault::WidenAfter),
        ("as", "clean") => Fault::Operation(n, OperationFault::As(CacheOp::Clean)),
        ("as", "invalidate") => Fault::Operation(n, OperationFault::As(CacheOp::Invalidate)),
        ("as", "clean-invalidate") => {
            Fault::Operation(n, OperationFault::As(CacheOp::CleanInvalidate))
        }
        ("barrier", "removed") => Fault::Barrier(n, BarrierFault::Removed),
        ("barrier", "dmb") => Fault::Barrier(n, BarrierFault::Dmb),
        ("barrier", "inner") => Fault::Barrier(n, BarrierFault::Inner),
        ("barrier", "stores") => Fault::Barrier(n, BarrierFault::Stores),
        ("barrier", "loads") => Fault::Barrier(n, BarrierFault::Loads),
        ("irq", "lost") => Fault::Interrupt(n, InterruptFault::Lost),
        ("irq", "twice") => Fault::Interrupt(n, InterruptFault::Twice),
        ("beat", "error") => Fault::Access(n, AccessFault::Error),
        ("beat", "unsnooped") => Fault::Access(n, AccessFault::Unsnooped),
        ("beat", "torn") => Fault::Access(n, AccessFault::Torn),
        ("beat", "after-next") => Fault::Access(n, AccessFault::Held(Hold::Next)),
        ("beat", "after-end") => Fault::Access(n, AccessFault::Held(Hold::End)),
        ("host", "halt") => Fault::Host(n, HostFault::Halt),
        ("host", "reset") => Fault::Host(n, HostFault::Reset),
        ("host", "babble") => Fault::Host(n, HostFault::Babble),
        _ => return None,
    })
}

fn counted(kind: &str, how: &str, more: u32, n: u32) -> Option<Fault> {
    Some(match (kind, how) {
        ("skip", from) if more > 0 => Fault::Operation(
            n,
            OperationFault::Skip {
                from: from.parse().ok()?,
                count: more,
            },
        ),
        ("irq", "late") => Fault::Interrupt(n, InterruptFault::Late(more)),
        ("irq", "early") => Fault::Interrupt(n, InterruptFault::Early(more.try_into().ok()?)),
        ("host", "disconnect") => Fault::Host(n, HostFault::Disconnect(more)),
        ("beat", "late") => Fault::Access(n, AccessFault::Held(Hold::Ticks(more))),
        ("flip", "cache" | "memory") => Fault::Access(
            n,
            AccessFault::Flip {
                cache: how == "cache",
                bit: more,
            },
        ),
        _ => return None,
    })
}

/// A fault of a run, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// The fault.
    pub fault: Fault,
    /// When it took place, in accesses since power-on; none if the run never came to it.
    pub at: Option<u64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn operation() -> impl Strategy<Value = OperationFault> {
        let until = prop::sample::select(&[Until::Barrier, Until::Start, Until::End][..]);
        let ops = [
            CacheOp::Clean,
            CacheOp::Invalidate,
            CacheOp::CleanInvalidate,
        ];
        prop_oneof![
            Just(OperationFault::Drop),
            until.prop_map(OperationFault::Delay),
            (any::<u32>(), 1..=u32::MAX)
                .prop_map(|(from, count)| OperationFault::Skip { from, count }),
            Just(OperationFault::WidenBefore),
            Just(OperationFault::WidenAfter),
            prop::sample::select(ops.to_vec()).prop_map(OperationFault::As),
        ]
    }

    fn access() -> impl Strategy<Value = AccessFault> {
        prop_oneof![
            Just(AccessFault::Error),
            Just(AccessFault::Unsnooped),
            Just(AccessFault::Torn),
            Just(AccessFault::Held(Hold::Next)),
            Just(AccessFault::Held(Hold::End)),
            any::<u32>().prop_map(|ticks| AccessFault::Held(Hold::Ticks(ticks))),
            any::<(bool, u32)>().prop_map(|(cache, bit)| AccessFault::Flip { cache, bit }),
        ]
    }

    fn fault() -> impl Strategy<Value = Fault> {
        use BarrierFault::{Dmb, Inner, Loads, Removed, Stores};
        let barrier = prop::sample::select(&[Removed, Dmb, Inner, Stores, Loads][..]);
        let interrupt = prop_oneof![
            Just(InterruptFault::Lost),
            any::<u8>().prop_map(InterruptFault::Early),
            Just(InterruptFault::Twice),
            any::<u32>().prop_map(InterruptFault::Late),
        ];
        let host = prop_oneof![
            prop::sample::select(&[HostFault::Halt, HostFault::Reset, HostFault::Babble][..]),
            any::<u32>().prop_map(HostFault::Disconnect),
        ];
        let n = || 1..=u32::MAX;
        prop_oneof![
            (n(), operation()).prop_map(|(n, what)| Fault::Operation(n, what)),
            (n(), barrier).prop_map(|(n, what)| Fault::Barrier(n, what)),
            (n(), interrupt).prop_map(|(n, what)| Fault::Interrupt(n, what)),
            (n(), access()).prop_map(|(n, what)| Fault::Access(n, what)),
            (n(), host).prop_map(|(n, what)| Fault::Host(n, what)),
        ]
    }

    proptest! {
        #[test]
        fn a_fault_reads_as_it_is_written(fault in fault()) {
            let text = fault.to_string();
            prop_assert_eq!(text.parse(), Ok(fault), "{}", text);
            let json = serde_json::to_string(&fault).unwrap();
            prop_assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), fault);
        }

        #[test]
        fn no_text_does_any_harm(text in "[a-z]{0,8}@?[0-9+:-]{0,12}[a-z:+]{0,12}[0-9]{0,12}") {
            if let Err(why) = text.parse::<Fault>() {
                prop_assert!(why.contains("is no fault"));
            }
        }
    }

    #[test]
    fn who_is_wrong_is_told_what_would_be_right() {
        let why = |text: &str| text.parse::<Fault>().unwrap_err();
        assert!(why("delay@17").contains("followed by :barrier, :start or :end"));
        assert!(why("drop@17:now").contains("nothing comes behind drop@N"));
        assert!(why("drop@0").contains("a number from 1 on"));
        assert!(why("drop@+1").contains("a number from 1 on"));
        assert!(why("lose@1").contains("a CLASS of drop, delay"));
        assert!(why("skip@1:0+0").contains(":FROM+COUNT"));
        assert!(why("host@1:unplug").contains(":halt, :reset, :babble or :disconnect+TICKS"));
    }
}
