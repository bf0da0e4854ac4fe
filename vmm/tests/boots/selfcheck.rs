// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The engine walks the guest's page tables itself. QEMU, which walks them too, is asked about each
//! load and store of a whole boot with all drivers at work.

use crate::support::run;

/// Both paths into user space's memory and both devices are in it.
const SCENARIO: [&str; 2] = ["iio-to-usb", "--no-trace"];

#[test]
fn all_translations_of_a_boot_are_those_of_qemu() {
    // On the unpatched kernel it finds bugs, and is carried out all the same.
    let plain = run(&SCENARIO);
    let checked = run(&[SCENARIO[0], SCENARIO[1], "--self-check"]);
    for run in [&plain, &checked] {
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    }
    // One that differs would have been an infrastructure error, and no report.
    let (plain_result, result) = (plain.result(), checked.result());
    let count = result.self_check.unwrap();
    // QEMU's own devices are checked, and no access of the machine's; accesses across pages are
    // two of the machine's, and blocks zeroed by `dc zva` are no memory access to QEMU.
    assert!(count > result.accesses / 10 * 9, "{count}");
    assert!(result.accesses > 1_000_000, "{}", result.accesses);
    let told = format!("note: {count} address translations compared with QEMU's own, all the same");
    assert!(checked.stdout.contains(&told), "{}", checked.stdout);

    // Looking changes nothing.
    assert_eq!(plain_result.self_check, None);
    assert_eq!(plain_result.run_hash, result.run_hash);
    assert_eq!(plain_result.hazards, result.hazards);
}
