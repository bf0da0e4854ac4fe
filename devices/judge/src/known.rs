// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where sanitizer and explorer differ, and why: the whole list.
//!
//! Each class is a rule over the mechanism ([`rules`]), which says for which bytes of a program a
//! difference is of that class. A difference that no class covers to its last byte is a mistake of one
//! of the two.

mod changed;
mod difference;
mod order;
mod rules;

pub use difference::{Difference, bytes, wrong};
pub use order::{ASSUMED, Assumed};
pub use rules::Known;

/// A class of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The sanitizer finds nothing where only order between observers is missing.
    Race,
    /// The sanitizer finds it in another order of the events.
    OtherOrder,
    /// The sanitizer finds nothing where one CPU's accesses of a line are not ordered.
    SameLine,
    /// The sanitizer takes what hangs on a load to come after it.
    Dependency,
    /// The sanitizer finds nothing where nobody reads what is lost.
    Unread,
    /// The sanitizer finds the missing barrier in other bytes of the line.
    SameCause,
    /// The sanitizer finds what nobody can miss.
    Overwritten,
    /// The sanitizer finds an access to memory in flight that no value shows.
    Touched,
    /// The sanitizer finds that two writes are not ordered, which no value shows.
    LastWrite,
    /// The sanitizer takes a poll to end that may never.
    BehindStuck,
    /// The sanitizer takes a poll to have ended where it stands in the list.
    PollWaits,
    /// The sanitizer does not conclude anything from what a master has answered.
    Answered,
    /// The sanitizer finds an alias that is not there.
    NoCacheableView,
    /// The explorer takes maintenance to be done that may not be.
    MaintenanceInFlight,
    /// The explorer takes an access of several lines for one.
    Wide,
    /// The sanitizer takes a master that nobody has told to come after all that CPUs have done.
    Unprompted,
    /// The sanitizer names what helps only if the master stops in between.
    NoPlace,
    /// The sanitizer names one of several operations that are missing together.
    Several,
    /// The sanitizer names maintenance too where the CPU has to wait first.
    Early,
    /// Both find it, and another operation is missing in this order than in all.
    Operation,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 20] = [
        Class::Race,
        Class::OtherOrder,
        Class::SameLine,
        Class::Dependency,
        Class::Unread,
        Class::SameCause,
        Class::Overwritten,
        Class::Touched,
        Class::LastWrite,
        Class::BehindStuck,
        Class::PollWaits,
        Class::Answered,
        Class::NoCacheableView,
        Class::MaintenanceInFlight,
        Class::Wide,
        Class::Unprompted,
        Class::NoPlace,
        Class::Several,
        Class::Early,
        Class::Operation,
    ];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Class::Race => "race",
            Class::OtherOrder => "other-order",
            Class::SameLine => "same-line",
            Class::Dependency => "dependency",
            Class::Unread => "unread",
            Class::SameCause => "same-cause",
            Class::Overwritten => "overwritten",
            Class::Touched => "touched",
            Class::LastWrite => "last-write",
            Class::BehindStuck => "behind-stuck",
            Class::PollWaits => "poll-waits",
            Class::Answered => "answered",
            Class::NoCacheableView => "no-cacheable-view",
            Class::MaintenanceInFlight => "maintenance-in-flight",
            Class::Wide => "wide",
            Class::Unprompted => "unprompted",
            Class::NoPlace => "no-place",
            Class::Several => "several",
            Class::Early => "early",
            Class::Operation => "operation",
        }
    }

    /// The reason.
    pub fn reason(self) -> &'static str {
        match self {
            Class::Race => {
                "nothing but a wait, a doorbell or a fence would order these observers, caches or \
                 not; the sanitizer judges the order in which they acted"
            }
            Class::OtherOrder => {
                "observers race; the sanitizer judges the order in which they acted, and finds it \
                 in another order of the same events"
            }
            Class::SameLine => {
                "one CPU accesses the same line twice, other bytes or with another attribute, and no \
                 barrier between; the sanitizer takes that in program order"
            }
            Class::Dependency => {
                "a store or maintenance that hangs on a load comes after it, which events do not \
                 express and Linux rests on; the sanitizer takes all of them to hang on it"
            }
            Class::Unread => {
                "a write may be lost at the end, and nobody reads it; the sanitizer tells when \
                 somebody does"
            }
            Class::SameCause => {
                "a missing barrier is found in other bytes of the line; what else the store may do there \
                 is found once the barrier is in place, or is gone"
            }
            Class::Overwritten => {
                "a write may be lost that somebody overwrites before it can be read; the sanitizer \
                 cannot know that when it is lost"
            }
            Class::Touched => {
                "memory of a transfer in flight is accessed, and no value shows it; the sanitizer \
                 tells of the access"
            }
            Class::LastWrite => {
                "a store and a master's write of the same bytes are not ordered, and nobody reads \
                 which one was last; the sanitizer tells of it at the write"
            }
            Class::BehindStuck => {
                "a poll may never end; the sanitizer judges what comes behind it, and what that would do, \
                 as if it had"
            }
            Class::PollWaits => {
                "a poll waits until its value arrives; the sanitizer judges it at the place where it \
                 stands, and finds nothing where it comes later"
            }
            Class::Answered => {
                "a master has polled a word, or was told and waited for; the sanitizer does not conclude \
                 that the stores and the maintenance before that are done"
            }
            Class::NoCacheableView => {
                "memory without any cacheable mapping; the sanitizer takes a cacheable alias, the \
                 linear map, to be there always, to hold copies and to clean through"
            }
            Class::MaintenanceInFlight => {
                "the explorer's simplification: a store or a poll behind maintenance of its line, or an \
                 access past the cache, finds that done for everybody, while what it cleaned may still be \
                 on its way to memory when only the access is ordered before what follows"
            }
            Class::Wide => {
                "the explorer's simplification: beside a word that is polled, an access of several lines \
                 takes effect on all of them at once; taken apart by line, they agree"
            }
            Class::Unprompted => {
                "a master accesses memory that nobody has told it to, by a doorbell or a word that it \
                 polls; the sanitizer takes it to come after all that the CPU has done by then, as \
                 what was started long before does; once it is told there, they agree"
            }
            Class::NoPlace => {
                "a master goes on by itself from one access to the next; what the sanitizer names helps \
                 once the CPU waits between the two, and has nowhere to stand otherwise"
            }
            Class::Several => {
                "more than one operation is missing; the sanitizer names one, and the other once that is \
                 there, or where somebody reads"
            }
            Class::Early => {
                "maintenance was done while a transfer was in flight that the CPU did not wait for; the \
                 sanitizer tells of both, of the access and of the maintenance that is to be done again \
                 after the wait, and by itself that does not help"
            }
            Class::Operation => {
                "observers race; the sanitizer names what is missing in the order in which they \
                 acted, and nothing put in helps in all orders"
            }
        }
    }
}
