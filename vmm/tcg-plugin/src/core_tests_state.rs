// SPDX-License-Identifier: GPL-2.0-or-later
//! Cores that go on from the saved state of another, and damaged states.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Another core over the same memory.
fn beside(b: &Bench) -> Bench {
    Bench {
        core: Core::new(Parts {
            machine: Recorder::default(),
            ram: b.ram.clone(),
            windows: b.windows.clone(),
            selfcheck: false,
            memory: BASE..WINDOW + 0x1000,
            qtest: Qtest::new(Server::default(), "/gic".into()),
            trace: Trace::new(&[2, 3]),
            calls: Calls::default(),
        }),
        ram: b.ram.clone(),
        windows: b.windows.clone(),
        cpu: b.cpu,
    }
}

/// A core that has seen something of all that it keeps.
fn at_work() -> (Bench, Sites) {
    let mut b = Bench::paging();
    let mut sites = Sites::default();
    for (pc, kernel) in [(UP + 64, true), (0x40_0000, false), (0x4020_0000, true)] {
        sites.intern(pc, kernel);
    }
    for page in 0..3 {
        b.core
            .access::<false>(b.cpu, UP + page * PAGE, 8, SITE)
            .unwrap();
    }
    b.core.trace(b.cpu, PC, Frame::default());
    let frame = Frame {
        context: Some(7),
        ..Frame::default()
    };
    b.exec_at(Op::Maintain(CacheOp::Clean), UP, EL1, frame);
    b.exec(Op::Point, UP + PAGE, EL0);
    // The tables have changed, and the CPU has not been told.
    b.page(0, BASE + 0x15000, 0);
    (b, sites)
}

#[test]
fn a_core_goes_on_from_a_saved_state() {
    let (mut b, sites) = at_work();
    let saved = b.core.save(&sites).unwrap();
    let mut other = beside(&b);
    let known = other.core.restore(&saved).unwrap();
    assert!(other.core.save(&known).unwrap() == saved);
    let mut known = [sites, known];
    for (b, sites) in [&mut b, &mut other].into_iter().zip(&mut known) {
        // What is known of sites is known by address, too.
        assert_eq!(sites.intern(0x40_0000, false), SiteId(2 | SiteId::USER));
        assert_eq!(sites.intern(0x4020_0000, true), SiteId(3));
        assert_eq!(sites.intern(0x4020_0000, false), SiteId(4 | SiteId::USER));
        b.take();
        b.core.machine.chains.clear();
        b.core.access::<true>(b.cpu, UP, 8, SITE).unwrap();
        b.exec(
            Op::Tlbi(Tlbi {
                reach: Reach::ThisCpu,
                what: Entries::Va,
            }),
            UP >> 12,
            EL1,
        );
        b.core.access::<true>(b.cpu, UP, 8, SITE).unwrap();
        let memory = MemoryType::Cacheable;
        let stored = [BASE + 0x10000, BASE + 0x15000].map(|pa| Seen::Store(pa, 8, memory));
        assert_eq!(b.take(), stored, "the old page, until it is taken out");
    }
    let seen = |n: usize, b: &Bench| b.core.observations(&known[n]);
    let (one, two) = (seen(0, &b), seen(1, &other));
    assert_eq!(one, two);
    assert_eq!(
        (one.chains.len(), one.accesses.len(), one.pages.len()),
        (1, 2, 1)
    );
    assert_eq!(b.core.stats, other.core.stats);
}

proptest! {
    #[test]
    fn no_damage_makes_a_core_panic(
        bits in prop::collection::vec((any::<Index>(), 1u8..), 1..4),
        cut in prop::option::weighted(0.2, any::<Index>()),
        pages in prop::collection::vec(0u64..9, 1..20),
    ) {
        let (b, sites) = at_work();
        let mut saved = serde_json::to_value(b.core.save(&sites).unwrap()).unwrap();
        let mut bytes: Vec<u8> = serde_json::from_value(saved["bytes"].take()).unwrap();
        for (at, bits) in bits {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        saved["bytes"] = bytes.into();
        let saved: Saved = serde_json::from_value(saved).unwrap();
        let mut other = beside(&b);
        let sites = match other.core.restore(&saved) {
            Err(e) => {
                prop_assert!(e.to_string().contains("the saved state of"), "{}", e);
                return Ok(());
            }
            Ok(sites) => sites,
        };
        for page in pages {
            other.core.access::<true>(CpuId(1), UP + page * PAGE + 4092, 8, SITE).unwrap();
            other.exec(Op::Maintain(CacheOp::Clean), UP + page * PAGE, EL1);
            other.exec(Op::Write(SysReg::Ttbr0), page << 48, EL1);
        }
        other.core.observations(&sites);
        other.core.save(&sites).unwrap();
    }
}
