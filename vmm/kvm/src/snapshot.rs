// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest that stands still, as a file ([`staleline_machine::snapshot`]): its CPUs, its interrupt controller, its
//! memory, and the machine.

use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use staleline_devices::coherency::Poison;
use staleline_devices::state::{self, Saved};
use staleline_machine::boot::Loaded;
use staleline_machine::engine::wire::Run;
use staleline_machine::snapshot::Parts;

use crate::uart::Uart;

pub use staleline_machine::snapshot::{KVM as FORMAT, PAGE, SnapshotError};

/// Most registers of a CPU, each of up to 256 bytes.
const REGISTERS: usize = 4096;

/// A register of a CPU by KVM's number, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// KVM_GET_ONE_REG's number.
    pub id: u64,
    /// As many bytes as that says.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// A CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuState {
    /// Its number.
    pub number: u8,
    /// In the order in which KVM lists them.
    pub registers: Vec<Register>,
    /// KVM_GET_MP_STATE.
    pub mp_state: u32,
    /// An SError that is pending (KVM_GET_VCPU_EVENTS), with its syndrome if it has one.
    pub serror: Option<(u64, bool)>,
}

/// A register of the interrupt controller: its group and number as KVM has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GicRegister {
    /// KVM_DEV_ARM_VGIC_GRP_*.
    pub group: u32,
    /// Which of the group, with its CPU.
    pub attr: u64,
    /// What it holds.
    pub value: u64,
}

/// All but memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Hash of what the guest is made of: see [`made_of`].
    pub made_of: String,
    /// What stood in RAM when it started.
    pub loaded: Loaded,
    /// CPUs by number.
    pub cpus: Vec<CpuState>,
    /// The interrupt controller.
    pub gic: Vec<GicRegister>,
    /// The console's UART.
    pub uart: Uart,
    /// What it has written.
    #[serde(with = "serde_bytes")]
    pub console: Vec<u8>,
    /// Shared interrupt lines that are high.
    pub lines: u64,
    /// Whether the UART's is.
    pub uart_line: bool,
    /// Whether its kernel has found the coherency port.
    pub is_told: bool,
    /// The machine.
    pub machine: Saved,
}

impl state::State for State {
    const COMPONENT: &'static str = "kvm-guest";
    const VERSION: u16 = 3;
}

/// Hash of what a guest is made of, apart from how long it may take and what is kept of it.
#[must_use]
pub fn made_of(run: &Run) -> String {
    let Run {
        kernel,
        // The same, or less.
        kernel_hash: _,
        initrd,
        fdt,
        ram_bytes,
        poison,
        window_bytes,
        cpus,
        // They are the device tree's.
        lines: _,
        guest,
        machine,
        disk,
        // They are the machine's, too.
        devices: _,
        timeout_ms: _,
        events: _,
        save: _,
        from: _,
    } = run;
    Parts {
        kernel: &kernel.0,
        initrd: initrd.as_ref().map(|initrd| initrd.0.as_str()),
        fdt: &fdt.0,
        disk: disk.as_ref().map(|disk| disk.0.as_str()),
        ram_bytes: *ram_bytes,
        window_bytes: *window_bytes,
        cpus: *cpus,
        guest: *guest,
        machine,
        arguments: &[format!("{poison:?} {}", Poison::BYTE)],
    }
    .hash()
}

/// Writes a snapshot. `ram` gives the bytes of a page of RAM by its number, of which there are `pages`, unless it holds
/// what it did at power-on.
///
/// # Errors
/// [`SnapshotError::File`] and [`SnapshotError::Save`].
pub fn write(
    to: &mut impl Write,
    state: &State,
    pages: u64,
    ram: impl FnMut(u64, &mut [u8; PAGE]) -> bool,
) -> Result<(), SnapshotError> {
    FORMAT.write(to, state, pages, ram)
}

/// Reads a snapshot of a guest with `pages` pages of RAM. What it holds goes to `ram`, in runs of whole pages, with the
/// number of the first.
///
/// # Errors
/// [`SnapshotError`]; what has gone to `ram` is then of no use.
pub fn read(
    path: &Path,
    pages: u64,
    ram: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<State, SnapshotError> {
    let state: State = FORMAT.read(path, pages, ram)?;
    if state.cpus.iter().any(|cpu| cpu.registers.len() > REGISTERS) {
        return Err(SnapshotError::Damaged("a CPU has too many registers"));
    }
    Ok(state)
}

#[cfg(test)]
pub(crate) mod tests {
    use staleline_devices::state::State as _;
    use staleline_machine::engine::GuestKind;
    use staleline_machine::engine::wire::Blob;

    use super::*;

    /// Of a guest that there is not.
    pub fn state() -> State {
        State {
            made_of: "hash".into(),
            loaded: Loaded {
                kernel: "k".into(),
                kernel_at: 1,
                initrd: None,
            },
            cpus: vec![CpuState {
                number: 0,
                registers: vec![Register {
                    id: 7,
                    value: vec![1, 2],
                }],
                mp_state: 0,
                serror: Some((3, true)),
            }],
            gic: vec![GicRegister {
                group: 1,
                attr: 2,
                value: 3,
            }],
            uart: Uart::new(),
            console: b"booted\n".to_vec(),
            lines: 5,
            uart_line: true,
            is_told: true,
            machine: Saved::new(&Machine(9)).unwrap(),
        }
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Machine(u32);

    impl staleline_devices::state::State for Machine {
        const COMPONENT: &'static str = "machine";
        const VERSION: u16 = 1;
    }

    #[test]
    fn what_was_written_is_read() {
        let mut bytes = Vec::new();
        let ram = |page, to: &mut [u8; PAGE]| {
            to.fill(page as u8);
            page != 0
        };
        write(&mut bytes, &state(), 4, ram).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        std::fs::write(&path, bytes).unwrap();
        let mut held = Vec::new();
        let back = read(&path, 4, |first, run| {
            held.push((first, run.len()));
            Ok(())
        });
        let back = back.unwrap();
        // The first page is as it was.
        assert_eq!(held, [(1, 3 * PAGE)]);
        let again = Saved::new(&back).unwrap();
        assert_eq!(again, Saved::new(&state()).unwrap());
        assert_eq!(back.machine.open::<Machine>().unwrap().0, 9);
        assert_eq!(State::COMPONENT, "kvm-guest");
    }

    #[test]
    fn a_guest_is_known_by_what_it_is_made_of() {
        let blob = |name: &str| Blob(name.into());
        let run = Run {
            kernel: blob("k"),
            kernel_hash: None,
            initrd: None,
            fdt: blob("f"),
            ram_bytes: 1 << 20,
            poison: Default::default(),
            window_bytes: 1 << 20,
            cpus: 1,
            lines: 64,
            guest: GuestKind::Board,
            machine: serde_json::json!({"a": 1}),
            disk: None,
            devices: None,
            timeout_ms: None,
            events: None,
            save: None,
            from: None,
        };
        let changed = |change: fn(&mut Run)| {
            let mut other = run.clone();
            change(&mut other);
            made_of(&other) != made_of(&run)
        };
        assert!(!changed(|run| run.timeout_ms = Some(1)));
        assert!(!changed(|run| run.from = Some(Blob("s".into()))));
        assert!(changed(|run| run.kernel = Blob("l".into())));
        assert!(changed(|run| run.initrd = Some(Blob("f".into()))));
        assert!(changed(|run| run.cpus = 2));
        assert!(changed(|run| run.poison = Poison::new(vec![0..2, 3..4])));
        assert!(changed(|run| run.machine = serde_json::json!({"a": 2})));
    }
}
