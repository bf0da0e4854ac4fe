// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where sanitizer and explorer are known to differ, and why.

use staleline_litmus::judge::Found;
use staleline_litmus::order::Order;
use staleline_litmus::program::{Event, Granules, Observer, Op, Orders, Program, View};

const LOAD_SIDE: &str = "a load of a flag is ordered before maintenance and stores that depend on it by \
                         control, which the model does not see and Linux rests on";
const LATE_MAINTENANCE: &str = "maintenance that no DSB has completed is not held against a master \
                                that snoops, an invalidate against none";
const FRESH: &str =
    "a snooping write makes older, ordered stores beside it look as young as itself";
const MERGED: &str = "the explorer's fault: a store to a line orders earlier maintenance of that line \
                      before what a barrier for stores holds back";
const PARTIAL_DSB: &str = "a DSB for stores or loads holds back all that follows, also maintenance";
const WIDE: &str = "the explorer's fault: an access that spans lines is ordered as a whole";
const LINE_ALIAS: &str = "an uncached store to other bytes of the line spoils an invalidate";
const RACE: &str = "of a load that races with a master's write nothing else is judged";
const OWN_TRANSFER: &str = "a master that snoops one way only meets its own transfer the other way: \
                            ownership";
const LATE_STORE: &str = "a store not ordered before the doorbell is held against a master that \
                          reads, not against one that snoops and writes, nor an uncached \
                          store against any that writes";

/// Cases of the corpus that differ, upwards, and the reason.
pub const CORPUS: &[(&str, &str)] = &[
    ("polled-flag-dma-rmb-then-invalidate", LOAD_SIDE),
    ("recycled-descriptor-no-barrier-behind-the-load", LOAD_SIDE),
    (
        "recycled-descriptor-store-barrier-behind-the-load",
        LOAD_SIDE,
    ),
];

/// The known reason for a difference, if it may be that.
pub fn class(
    program: &Program,
    found: &[Found],
    missed: Granules,
    wrong: Granules,
) -> Option<&'static str> {
    if !wrong.is_empty() {
        return false_alarm(program, found, wrong);
    }
    let order = Order::of(program);
    let unordered = |first: &dyn Fn(&Event, u8) -> bool, second: &dyn Fn(&Event, u8) -> bool| {
        missed.lines().any(|line| {
            let mut events = program.events.iter().enumerate();
            events.any(|(i, a)| {
                let mut others = program.events.iter().enumerate();
                first(a, line) && others.any(|(j, b)| second(b, line) && order.race(i, j))
            })
        })
    };
    let on = |e: &Event, line| e.bytes().meets(Granules::line(line));
    let master = |e: &Event| matches!(e.by, Observer::Dev(_));
    let maintains = |e: &Event, line| e.maintains().is_some_and(|(_, l)| l == line);
    let snoops = |e: &Event, line| {
        let view = e.read().or(e.write().map(|(view, _)| view));
        on(e, line) && view == Some(View::Snooping)
    };
    let stores = |e: &Event, line| on(e, line) && !master(e) && e.write().is_some();
    let snoop_writes = |e: &Event, line| snoops(e, line) && e.write().is_some();
    let uncached = |e: &Event, line| {
        let view = e.write().map(|(view, _)| view);
        stores(e, line) && view != Some(View::WriteBack)
    };
    let loads = |e: &Event, line| on(e, line) && !master(e) && e.read().is_some();
    let writes = |e: &Event, line| on(e, line) && master(e) && e.write().is_some();
    let invalidates = |e: &Event, line| {
        maintains(e, line) && e.maintains().is_some_and(|(dc, _)| dc.invalidates())
    };
    if unordered(&maintains, &snoops) || unordered(&invalidates, &writes) {
        Some(LATE_MAINTENANCE)
    } else if unordered(&stores, &snoop_writes) || unordered(&uncached, &writes) {
        Some(LATE_STORE)
    } else if unordered(&loads, &writes) {
        Some(RACE)
    } else {
        None
    }
}

fn false_alarm(program: &Program, found: &[Found], wrong: Granules) -> Option<&'static str> {
    let events = &program.events;
    let merged = events.iter().enumerate().any(|(i, e)| {
        let line = e.maintains().map(|(_, line)| Granules::line(line));
        let mut later = events[i..].iter();
        line.is_some_and(|line| later.any(|s| s.write().is_some() && s.bytes().meets(line)))
    });
    let partial_dsb = events
        .iter()
        .any(|e| matches!(e.op, Op::Barrier(b) if b.completes && b.orders != Orders::Full));
    let wide = events.iter().any(|e| e.bytes().lines().count() > 1);
    let uncached = events.iter().any(|e| {
        let view = e.write().map(|(view, _)| view);
        matches!(view, Some(View::NonCacheable | View::WriteThrough))
    });
    let classes = [
        (OWN_TRANSFER, "ownership", "", half_coherent(program)),
        (
            FRESH,
            "missing-barrier",
            "Unordered",
            events.iter().any(snooping_write),
        ),
        (MERGED, "missing-barrier", "Incomplete", merged),
        (PARTIAL_DSB, "mismatched-alias", "Incomplete", partial_dsb),
        (PARTIAL_DSB, "missing-barrier", "Incomplete", partial_dsb),
        (LINE_ALIAS, "mismatched-alias", "Incomplete", uncached),
        (WIDE, "missing-barrier", "Unordered", wide),
    ];
    let (mut open, mut reason) = (wrong, None);
    for (class, kind, why, may_be) in classes {
        let of_class = found.iter().filter(|f| {
            let told = f.missing.as_deref().unwrap_or_default();
            may_be && f.kind == kind && told.contains(why)
        });
        let bytes = of_class.fold(Granules::NONE, |all, f| all.or(f.bytes));
        if open.meets(bytes) {
            open = open.without(bytes);
            reason = reason.or(Some(class));
        }
    }
    reason.filter(|_| open.is_empty())
}

fn snooping_write(event: &Event) -> bool {
    matches!(event.write(), Some((View::Snooping, _)))
}

/// Whether a master snoops one way only.
fn half_coherent(program: &Program) -> bool {
    (0..4).any(|dev| {
        let mine = program.events.iter().filter(|e| e.by == Observer::Dev(dev));
        let mut views = mine.filter_map(|e| e.read().or(e.write().map(|(view, _)| view)));
        let first = views.next();
        views.any(|view| Some(view) != first)
    })
}
