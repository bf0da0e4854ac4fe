// SPDX-License-Identifier: GPL-2.0-or-later
//! Several CPUs: what each has for itself, and what they share.

use super::*;

const SECOND: CpuId = CpuId(1);

/// Turns the second CPU's MMU on, with the tables of the first.
fn second(bench: &mut Bench) {
    bench.cpu = SECOND;
    bench.translation_on();
    bench.cpu = CpuId::BOOT;
}

fn load(bench: &mut Bench, cpu: CpuId, va: u64) -> Option<u64> {
    bench.take();
    bench.core.access::<false>(cpu, va, 8, SITE).unwrap();
    assert!(bench.core.machine.seen.is_empty() || bench.core.machine.last == cpu);
    match bench.take()[..] {
        [Seen::Load(pa, 8, _)] => Some(pa),
        _ => None,
    }
}

#[test]
fn each_has_its_own_translation() {
    let mut b = Bench::paging();
    // The second is still at reset: no MMU.
    assert_eq!(load(&mut b, SECOND, BASE + 8), Some(BASE + 8));
    assert_eq!(load(&mut b, SECOND, UP + 8), None);
    assert_eq!(load(&mut b, CpuId::BOOT, UP + 8), Some(BASE + 0x10008));
    second(&mut b);
    assert_eq!(load(&mut b, SECOND, UP + 8), Some(BASE + 0x10008));
    b.cpu = SECOND;
    b.exec(Op::Write(SysReg::Sctlr), 0, EL1);
    assert_eq!(load(&mut b, SECOND, BASE + 8), Some(BASE + 8));
    assert_eq!(load(&mut b, CpuId::BOOT, UP + 8), Some(BASE + 0x10008));
}

#[test]
fn a_tlbi_reaches_those_that_it_says() {
    for what in [Entries::Va, Entries::Asid, Entries::All] {
        for reach in [Reach::ThisCpu, Reach::AllCpus] {
            let mut b = Bench::paging();
            second(&mut b);
            // It belongs to an ASID.
            b.page(0, BASE + 0x10000, 1 << 11);
            for cpu in [CpuId::BOOT, SECOND] {
                assert_eq!(load(&mut b, cpu, UP), Some(BASE + 0x10000));
            }
            b.page(0, BASE + 0x14000, 1 << 11);
            b.exec(
                Op::Tlbi(Tlbi { reach, what }),
                UP >> 12 & 0xfff_ffff_ffff,
                EL1,
            );
            let fresh = |b: &mut Bench, cpu| load(b, cpu, UP) == Some(BASE + 0x14000);
            assert!(fresh(&mut b, CpuId::BOOT), "{what:?} {reach:?}");
            let reached = fresh(&mut b, SECOND);
            assert_eq!(reached, reach == Reach::AllCpus, "{what:?} {reach:?}");
        }
    }
}

#[test]
fn time_goes_on_by_itself_when_the_last_one_waits() {
    let mut b = Bench::new();
    let idles = |b: &mut Bench| b.take().iter().filter(|told| **told == Seen::Idle).count();
    // A CPU that has not been started is not waited for.
    b.exec(Op::WaitForInterrupt, 0, EL1);
    assert_eq!(idles(&mut b), 1);
    load(&mut b, SECOND, BASE);
    b.exec(Op::WaitForInterrupt, 0, EL1);
    assert_eq!(idles(&mut b), 0);
    b.cpu = SECOND;
    b.exec(Op::WaitForInterrupt, 0, EL1);
    assert_eq!(idles(&mut b), 1);
    // The first is woken, and waits again.
    b.cpu = CpuId::BOOT;
    b.exec(Op::Barrier(Barrier::DSB_SY), 0, EL1);
    b.exec(Op::WaitForInterrupt, 0, EL1);
    assert_eq!(idles(&mut b), 1);
}

#[test]
fn only_the_firmware_calls_that_end_the_guest_end_it() {
    let mut b = Bench::new();
    // CPU_ON, and SYSTEM_OFF from EL0, where it is undefined.
    b.exec(Op::Call, 0xc400_0003, EL1);
    b.exec(Op::Call, 0x8400_0008, EL0);
    assert!(!b.core.over);
    for function in [0x8400_0008, 0x8400_0009] {
        let mut b = Bench::new();
        b.exec(Op::Call, function, EL1);
        assert!(b.core.over);
    }
}
