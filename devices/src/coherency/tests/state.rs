// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A domain that goes on from its saved state, as often as you like, is the domain that was never saved.

use proptest::prelude::*;

use super::rig::{self, BASE};
use super::steps::{PAGE, RAM, Run, config, step};
use crate::coherency::state::DomainState;
use crate::coherency::{Domain, DomainConfig, Policy, SnoopWrite};
use crate::dma::Port;
use crate::state::{Saved, State as _, Stateful as _};

/// A domain with a page that was loaded before power-on.
fn domain(config: &DomainConfig) -> Domain {
    let mut domain = rig::domain(config);
    domain.loaded(BASE, PAGE);
    domain
}

fn run(config: &DomainConfig) -> Run {
    let mut run = Run::new(config);
    run.domain = domain(config);
    run
}

/// Goes on with another domain, over a copy of RAM.
fn renew(run: &mut Run, config: &DomainConfig) {
    let saved = run.domain.save_state().unwrap();
    let mut fresh = domain(config);
    rig::poke(&fresh, 0, &rig::ram(&run.domain, 0, RAM as usize));
    fresh.restore_state(&saved).unwrap();
    let again = fresh.save_state().unwrap();
    assert!(again == saved, "it saves another state than was restored");
    run.domain = fresh;
}

fn damaged(saved: &Saved, damage: &[(prop::sample::Index, u8)], cut: Option<usize>) -> Saved {
    let mut saved = saved.clone();
    let bytes = saved.bytes_mut();
    for (at, bits) in damage {
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
    }
    if let Some(cut) = cut {
        bytes.truncate(bytes.len() - 1 - cut % bytes.len());
    }
    saved
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn it_goes_on_as_if_nothing_had_been(
        config in config(),
        program in prop::collection::vec(step(), 1..60),
        every in 1usize..12,
    ) {
        let (mut plain, mut renewed) = (run(&config), run(&config));
        for (n, step) in program.iter().enumerate() {
            if n % every == 0 {
                renew(&mut renewed, &config);
            }
            plain.step(step);
            renewed.step(step);
            prop_assert_eq!(plain.domain.hash.value(), renewed.domain.hash.value(), "step {}", n);
        }
        renew(&mut renewed, &config);
        prop_assert!(plain.read == renewed.read, "masters read other data");
        prop_assert_eq!(plain.domain.report(), renewed.domain.report());
        let occurrences = |run: &Run| format!("{:?}", run.domain.occurrences());
        prop_assert_eq!(occurrences(&plain), occurrences(&renewed));
        let saved = |run: &Run| run.domain.save_state().unwrap();
        prop_assert!(saved(&plain) == saved(&renewed), "states differ");
        for (a, b) in plain.lines().iter().zip(&renewed.lines()) {
            prop_assert_eq!(a, b);
        }
        let ram = |run: &Run| rig::ram(&run.domain, 0, RAM as usize);
        prop_assert!(ram(&plain) == ram(&renewed), "ram differs");
        let dram = |run: &Run| rig::dram(&run.domain, 0, RAM as usize);
        prop_assert!(dram(&plain) == dram(&renewed), "dram differs");
    }

    /// What was damaged is refused, or is the state of another run, in which nothing panics.
    #[test]
    fn no_damage_makes_it_panic(
        config in config(),
        program in prop::collection::vec(step(), 1..40),
        then in prop::collection::vec(step(), 1..40),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        cut in prop::option::weighted(0.2, any::<usize>()),
    ) {
        let mut before = run(&config);
        program.iter().for_each(|step| before.step(step));
        let saved = damaged(&before.domain.save_state().unwrap(), &damage, cut);
        let mut after = run(&config);
        match after.domain.restore_state(&saved) {
            Err(e) => prop_assert!(e.to_string().contains("saved"), "{}", e),
            Ok(()) => {
                then.iter().for_each(|step| after.step(step));
                after.domain.report();
                after.domain.save_state().unwrap();
            }
        }
    }
}

/// Each is told by what is another.
#[test]
fn a_state_of_another_board_is_refused() {
    let config = rig::config(RAM, Policy::Lazy, SnoopWrite::Allocate);
    let saved = domain(&config).save_state().unwrap();
    let refused = |config: &DomainConfig| domain(config).restore_state(&saved).unwrap_err();
    let mut others = vec![config.clone(); 4];
    others[0].policy = Policy::Eager;
    others[1].snoop_write = SnoopWrite::WriteThrough;
    others[2].ports[1] = Port::HpcRead;
    others[3].ram_bytes += PAGE;
    for other in &others {
        let text = refused(other).to_string();
        assert!(
            text.contains("coherency-domain has board = Board"),
            "{text}"
        );
        assert!(
            text.contains("restore what was saved on this board"),
            "{text}"
        );
    }
    // Nothing was loaded here.
    let text = rig::domain(&config).restore_state(&saved).unwrap_err();
    assert!(text.to_string().contains("memory loaded before power-on"));
    let mut newer = saved.clone();
    let version = DomainState::VERSION + 1;
    newer.set_version(version);
    let text = domain(&config).restore_state(&newer).unwrap_err();
    assert!(text.to_string().contains(&format!("version {version}")));
    domain(&config).restore_state(&saved).unwrap();
}
