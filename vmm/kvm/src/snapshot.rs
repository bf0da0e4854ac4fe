// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest that stands still, as a file: its CPUs, its interrupt controller, its memory, and the machine.
//!
//! The file begins with [`MARK`] and, as little-endian numbers, [`VERSION`] (32 bits) and the length of what comes
//! next (64 bits): all but the memory, as [`State`], sealed. Then come runs of pages of RAM that are not all zero,
//! each as the number of its first page and the number of pages (64 bits each) with their bytes, and a run of no
//! pages. The last 8 bytes are a sum of everything between the sealed state and them (XXH3). Whoever reads takes
//! the file for hostile.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use staleline_devices::state::{self, RestoreError, SaveError, Saved};
use staleline_machine::boot::Loaded;
use staleline_machine::engine::wire::Run;
use staleline_support::digest::FieldHasher;
use twox_hash::XxHash3_64;

use crate::uart::Uart;

/// What the file begins with.
pub const MARK: &[u8; 8] = b"stalekvm";

/// Version of all that is in no [`Saved`].
pub const VERSION: u32 = 1;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Most bytes of all but the memory: states are of megabytes.
const STATE_LIMIT: u64 = 256 << 20;

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
    /// The machine.
    pub machine: Saved,
}

impl state::State for State {
    const COMPONENT: &'static str = "kvm-guest";
    const VERSION: u16 = 1;
}

/// Why there is no going on from a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read or written.
    #[error("the snapshot cannot be {0}")]
    File(&'static str, #[source] io::Error),
    /// It is something else.
    #[error("it is no snapshot of the kvm engine's: it does not begin like one")]
    Other,
    /// Of another program.
    #[error("the snapshot has version {0}, and this program knows version {VERSION}")]
    Version(u32),
    /// It is cut short, or was changed.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// Of another run.
    #[error(
        "the snapshot is of another guest: its kernel, initramfs, device tree, memory, CPUs or settings are not \
         those of this run"
    )]
    Guest,
    /// A part of it is not to be had here.
    #[error(transparent)]
    State(#[from] RestoreError),
    /// A part cannot be saved.
    #[error(transparent)]
    Save(#[from] SaveError),
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
        window_bytes,
        cpus,
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
    let mut hasher = FieldHasher::default();
    hasher.named("kernel", &kernel.0);
    hasher.named("initrd", initrd.as_ref().map_or("", |i| &i.0));
    hasher.named("fdt", &fdt.0);
    hasher.named("disk", disk.as_ref().map_or("", |d| &d.0));
    hasher.named("ram", ram_bytes.to_string());
    hasher.named("windows", window_bytes.to_string());
    hasher.named("cpus", cpus.to_string());
    hasher.named("guest", format!("{guest:?}"));
    // Keys are in the order of their names.
    hasher.named("machine", machine.to_string());
    hasher.finish()
}

/// Adds up what goes through.
struct Summed<T> {
    inner: T,
    sum: XxHash3_64,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Summed {
            inner,
            sum: XxHash3_64::new(),
        }
    }
}

impl<T: Write> Summed<T> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.write(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Summed<T> {
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        fill(&mut self.inner, bytes)?;
        self.sum.write(bytes);
        Ok(())
    }

    fn number(&mut self) -> Result<u64, SnapshotError> {
        let mut bytes = [0; 8];
        self.take(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

fn fill(from: &mut impl Read, bytes: &mut [u8]) -> Result<(), SnapshotError> {
    from.read_exact(bytes).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => SnapshotError::Damaged("it is cut short"),
        _ => SnapshotError::File("read", e),
    })
}

/// Writes a snapshot. `ram` gives the bytes of a page of RAM by its number, of which there are `pages`.
///
/// # Errors
/// [`SnapshotError::File`] and [`SnapshotError::Save`].
pub fn write(
    to: &mut impl Write,
    state: &State,
    pages: u64,
    mut ram: impl FnMut(u64, &mut [u8; PAGE]),
) -> Result<(), SnapshotError> {
    let failed = |e| SnapshotError::File("written", e);
    let sealed = Saved::new(state)?.seal()?;
    let head = [
        &MARK[..],
        &VERSION.to_le_bytes(),
        &(sealed.len() as u64).to_le_bytes(),
        &sealed,
    ];
    head.iter()
        .try_for_each(|part| to.write_all(part))
        .map_err(failed)?;
    let mut out = Summed::new(BufWriter::with_capacity(1 << 16, to));
    let mut bytes = [0; PAGE];
    // A page at a time: a run is as long as what it is made of is known at once.
    let mut run: Vec<u8> = Vec::new();
    let end = |out: &mut Summed<_>, run: &mut Vec<u8>, next: u64| {
        let count = (run.len() / PAGE) as u64;
        out.put(&(next - count).to_le_bytes())?;
        out.put(&count.to_le_bytes())?;
        out.put(run)?;
        run.clear();
        Ok(())
    };
    for page in 0..pages {
        ram(page, &mut bytes);
        let empty = bytes.iter().all(|byte| *byte == 0);
        if !empty {
            run.extend(bytes);
        }
        if !run.is_empty() && (empty || run.len() == RUN) {
            let next = if empty { page } else { page + 1 };
            end(&mut out, &mut run, next).map_err(failed)?;
        }
    }
    if !run.is_empty() {
        end(&mut out, &mut run, pages).map_err(failed)?;
    }
    end(&mut out, &mut run, pages).map_err(failed)?;
    let sum = out.sum.finish().to_le_bytes();
    out.inner.write_all(&sum).map_err(failed)?;
    out.inner.flush().map_err(failed)
}

/// Bytes of a run at most.
const RUN: usize = 256 * PAGE;

/// Reads a snapshot of a guest with `pages` pages of RAM. What it holds goes to `ram`, in runs of whole pages, with the
/// number of the first.
///
/// # Errors
/// [`SnapshotError`]; what has gone to `ram` is then of no use.
pub fn read(
    path: &Path,
    pages: u64,
    mut ram: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<State, SnapshotError> {
    let failed = |e| SnapshotError::File("read", e);
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let mut from = BufReader::with_capacity(1 << 16, file);
    let mut head = [0; 20];
    fill(&mut from, &mut head).map_err(|e| match e {
        SnapshotError::Damaged(_) => SnapshotError::Other,
        e => e,
    })?;
    let [mark @ .., v0, v1, v2, v3, l0, l1, l2, l3, l4, l5, l6, l7] = head;
    if mark != *MARK {
        return Err(SnapshotError::Other);
    }
    match u32::from_le_bytes([v0, v1, v2, v3]) {
        VERSION => {}
        other => return Err(SnapshotError::Version(other)),
    }
    let sealed = u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
    if sealed > STATE_LIMIT || sealed > len {
        return Err(SnapshotError::Damaged("its state is longer than it may be"));
    }
    let mut bytes = vec![0; usize::try_from(sealed).unwrap_or_default()];
    fill(&mut from, &mut bytes)?;
    let state: State = Saved::unseal(&bytes)?.open()?;
    drop(bytes);
    if state.cpus.iter().any(|cpu| cpu.registers.len() > REGISTERS) {
        return Err(SnapshotError::Damaged("a CPU has too many registers"));
    }

    let mut from = Summed::new(from);
    let mut run = vec![0; RUN];
    loop {
        let (first, count) = (from.number()?, from.number()?);
        if count == 0 {
            break;
        }
        let bytes = usize::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(PAGE));
        let run = bytes.and_then(|bytes| run.get_mut(..bytes));
        let fits = first.checked_add(count).is_some_and(|end| end <= pages);
        let Some(run) = run.filter(|_| fits) else {
            return Err(SnapshotError::Damaged("a part of it is outside RAM"));
        };
        from.take(run)?;
        ram(first, run).map_err(|e| SnapshotError::File("unpacked", e))?;
    }
    let sum = from.sum.finish();
    let mut told = [0; 8];
    fill(&mut from.inner, &mut told)?;
    let mut more = [0];
    let end = from.inner.read(&mut more).map_err(failed)?;
    match sum == u64::from_le_bytes(told) && end == 0 {
        true => Ok(state),
        false => Err(SnapshotError::Damaged("its sum is wrong")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use staleline_devices::state::State as _;
    use staleline_machine::engine::GuestKind;
    use staleline_machine::engine::wire::Blob;

    use super::*;

    const PAGES: u64 = 700;

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
            machine: Saved::new(&Machine(9)).unwrap(),
        }
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Machine(u32);

    impl staleline_devices::state::State for Machine {
        const COMPONENT: &'static str = "machine";
        const VERSION: u16 = 1;
    }

    /// Some pages here and there, and one run that is longer than what is written at once.
    fn holds(page: u64) -> u8 {
        match page {
            3 | 5 | 6 | 699 => page as u8,
            100..=500 => 7,
            _ => 0,
        }
    }

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, &state(), PAGES, |page, to| to.fill(holds(page))).unwrap();
        bytes
    }

    fn read_back(bytes: &[u8]) -> Result<(State, Vec<u8>), SnapshotError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        std::fs::write(&path, bytes).unwrap();
        let mut ram = vec![0; PAGES as usize * PAGE];
        let state = read(&path, PAGES, |first, run| {
            ram[first as usize * PAGE..][..run.len()].copy_from_slice(run);
            Ok(())
        })?;
        Ok((state, ram))
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = written();
        let (back, all) = read_back(&bytes).unwrap();
        let again = Saved::new(&back).unwrap();
        assert_eq!(again, Saved::new(&state()).unwrap());
        assert_eq!(back.machine.open::<Machine>().unwrap().0, 9);
        for (page, bytes) in (0..).zip(all.chunks(PAGE)) {
            assert!(bytes.iter().all(|byte| *byte == holds(page)), "{page}");
        }
        // Pages of nothing but zeros are not there.
        assert!(bytes.len() < 406 * PAGE + 4096, "{}", bytes.len());
        assert_eq!(State::COMPONENT, "kvm-guest");
    }

    #[test]
    fn what_is_cut_changed_or_something_else_is_told() {
        let good = written();
        let text = |bytes: &[u8]| read_back(bytes).unwrap_err().to_string();
        assert!(text(b"").contains("does not begin like one"));
        assert!(text(b"\x7fELF and what comes after that").contains("does not begin like one"));
        for cut in [19, 20, 40, good.len() / 2, good.len() - 1] {
            let why = text(&good[..cut]);
            let told = ["does not begin", "cut short", "longer than", "damaged"];
            assert!(told.iter().any(|t| why.contains(t)), "{cut}: {why}");
        }
        let mut newer = good.clone();
        newer[8] = 9;
        assert!(text(&newer).contains("has version 9, and this program knows version 1"));
        for at in [
            12,
            19,
            30,
            200,
            good.len() - 5000,
            good.len() - 9,
            good.len() - 1,
        ] {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(read_back(&bad).is_err(), "{at}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(text(&longer).contains("sum is wrong"));
    }

    #[test]
    fn no_page_is_put_outside_of_ram() {
        let mut bytes = Vec::new();
        write(&mut bytes, &state(), PAGES + 1, |_, to| to.fill(1)).unwrap();
        let why = read_back(&bytes).unwrap_err().to_string();
        assert!(why.contains("outside RAM"), "{why}");
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
            window_bytes: 1 << 20,
            cpus: 1,
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
        assert!(changed(|run| run.machine = serde_json::json!({"a": 2})));
    }
}
