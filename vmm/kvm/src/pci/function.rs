// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! One device's configuration space, as the guest sees it: the device's own, but for where its registers are,
//! which the guest decides for itself; without message-signalled interrupts, which the bridge has none of; and
//! without ports and ROM. (PCI Local Bus Specification 3.0, chapter 6.)

use std::ops::Range;

/// Bytes of configuration space that each device has.
const BYTES: u16 = 256;

const COMMAND: u16 = 0x04;
/// In it: the device answers accesses to its memory.
const COMMAND_MEMORY: u8 = 1 << 1;
const STATUS_CAPABILITIES: u8 = 1 << 4;
const HEADER: u16 = 0x0c;
/// In it: there are more functions.
const MULTIFUNCTION: u32 = 1 << 23;
const FIRST_BAR: u16 = 0x10;
const LAST_BAR: u16 = 0x24;
const ROM: u16 = 0x30;
const CAPABILITIES: u16 = 0x34;
const INTERRUPT: u16 = 0x3c;

/// Capabilities that are not shown: message-signalled interrupts, in both forms.
const HIDDEN: [u8; 2] = [0x05, 0x11];
/// Of these, that of the form that has a table in memory.
const MSI_X: u8 = 0x11;
/// In the control word of the other: addresses have 64 bits; each message can be masked.
const MSI_WIDE: u8 = 1 << 7;
const MSI_MASKS: u8 = 1 << 0;
/// Most capabilities that there is room for.
const MAX_CAPABILITIES: usize = 48;

/// What is really there.
pub trait Backing {
    /// Reads up to 4 bytes of configuration space.
    fn read_configuration(&self, register: u16, data: &mut [u8]);
    /// Writes up to 4 bytes of it.
    fn write_configuration(&self, register: u16, data: &[u8]);
    /// Bytes of the registers of that base address register, 0 if there are none.
    fn bytes(&self, bar: usize) -> u64;
    /// Reads up to 8 bytes of them.
    fn read(&self, bar: usize, offset: u64, data: &mut [u8]);
    /// Writes up to 8 bytes of them.
    fn write(&self, bar: usize, offset: u64, data: &[u8]);
}

#[derive(Debug, Clone, Copy, Default)]
struct Bar {
    /// A power of two; 0 if there is none.
    bytes: u64,
    /// The bits that say what it is.
    kind: u32,
    /// It is the upper half of the one before.
    upper: bool,
    /// As the guest has written it, a multiple of its length.
    base: u64,
}

#[derive(Debug, Clone, Copy)]
struct Capability {
    at: u16,
    /// Where the guest finds the next one.
    next: u8,
}

/// A device on the guest's bus.
pub struct Function<B> {
    backing: B,
    bars: [Bar; 6],
    /// Those that are shown, in their order.
    capabilities: Vec<Capability>,
    first_capability: u8,
    /// Where those are that are not.
    hidden: Vec<Range<u16>>,
    line: u8,
    answers: bool,
}

impl<B: Backing> Function<B> {
    /// As it is after a reset: nowhere.
    pub fn new(backing: B) -> Self {
        let mut function = Function {
            bars: bars(&backing),
            capabilities: Vec::new(),
            first_capability: 0,
            hidden: Vec::new(),
            line: 0,
            answers: false,
            backing,
        };
        function.choose_capabilities();
        function
    }

    fn choose_capabilities(&mut self) {
        let mut status = [0];
        self.backing.read_configuration(COMMAND + 2, &mut status);
        if status[0] & STATUS_CAPABILITIES == 0 {
            return;
        }
        let mut next = [0];
        self.backing.read_configuration(CAPABILITIES, &mut next);
        let mut seen: Vec<u16> = Vec::new();
        // The device's list may be anything.
        while seen.len() < MAX_CAPABILITIES {
            let at = u16::from(next[0] & !3);
            if at < FIRST_BAR + 0x30 || seen.contains(&at) {
                break;
            }
            seen.push(at);
            let mut head = [0; 2];
            self.backing.read_configuration(at, &mut head);
            next[0] = head[1];
            if HIDDEN.contains(&head[0]) {
                let bytes = self.hidden_bytes(at, head[0]);
                self.hidden.push(at..at + bytes);
                continue;
            }
            match self.capabilities.last_mut() {
                // Below 256, as all that is found.
                Some(before) => before.next = at as u8,
                None => self.first_capability = at as u8,
            }
            self.capabilities.push(Capability { at, next: 0 });
        }
    }

    /// So long is a capability of messages, in whole words (6.8.1, 6.8.2).
    fn hidden_bytes(&self, at: u16, kind: u8) -> u16 {
        if kind == MSI_X {
            return 12;
        }
        let mut control = [0; 2];
        self.backing.read_configuration(at + 2, &mut control);
        let [low, high] = control;
        let wide = if low & MSI_WIDE != 0 { 4 } else { 0 };
        // With masks, the data takes a word, and two more come.
        let masks = if high & MSI_MASKS != 0 { 8 } else { 0 };
        12 + wide + masks
    }

    /// Reads up to 8 bytes of configuration space.
    pub fn read_configuration(&self, register: u16, data: &mut [u8]) {
        for (n, byte) in (0u16..).zip(data) {
            let at = register.saturating_add(n);
            let word = self.word(at & !3).to_le_bytes();
            *byte = word[usize::from(at % 4)];
        }
    }

    /// The 32 bits there, at a multiple of 4.
    fn word(&self, at: u16) -> u32 {
        if at >= BYTES {
            // No extended capabilities.
            return 0;
        }
        let real = || {
            let mut data = [0; 4];
            self.backing.read_configuration(at, &mut data);
            u32::from_le_bytes(data)
        };
        match at {
            HEADER => real() & !MULTIFUNCTION,
            FIRST_BAR..=LAST_BAR => self.bar(usize::from((at - FIRST_BAR) / 4)),
            ROM => 0,
            CAPABILITIES => self.first_capability.into(),
            INTERRUPT => real() & !0xff | u32::from(self.line),
            _ if self.hidden.iter().any(|hidden| hidden.start == at) => real() & 0xffff_0000,
            _ => match self.capabilities.iter().find(|c| c.at == at) {
                Some(capability) => real() & !0xff00 | u32::from(capability.next) << 8,
                None => real(),
            },
        }
    }

    fn bar(&self, index: usize) -> u32 {
        let Some(bar) = self.bars.get(index) else {
            return 0;
        };
        match index.checked_sub(1).and_then(|low| self.bars.get(low)) {
            // Halves of 64 bits.
            Some(low) if bar.upper => (low.base >> 32) as u32,
            _ if bar.bytes == 0 => 0,
            _ => bar.base as u32 | bar.kind,
        }
    }

    /// Writes up to 8 bytes of configuration space.
    pub fn write_configuration(&mut self, register: u16, data: &[u8]) {
        let mut data = data;
        let mut at = register;
        while !data.is_empty() {
            // What goes into one word.
            let n = data.len().min(usize::from(4 - at % 4));
            let (piece, rest) = data.split_at(n);
            self.write_word(at, piece);
            data = rest;
            at = at.saturating_add(n as u16);
        }
    }

    /// Within one word.
    fn write_word(&mut self, at: u16, data: &[u8]) {
        let word = at & !3;
        match word {
            BYTES.. => {}
            FIRST_BAR..=LAST_BAR => {
                let mut bytes = self.word(word).to_le_bytes();
                let to = bytes.iter_mut().skip(usize::from(at % 4));
                to.zip(data).for_each(|(to, from)| *to = *from);
                let index = usize::from((word - FIRST_BAR) / 4);
                self.set_bar(index, u32::from_le_bytes(bytes));
            }
            ROM | CAPABILITIES => {}
            INTERRUPT => {
                if at == INTERRUPT
                    && let Some(line) = data.first()
                {
                    self.line = *line;
                }
            }
            _ if self.hidden.iter().any(|hidden| hidden.contains(&at)) => {}
            _ => {
                if at == COMMAND
                    && let Some(command) = data.first()
                {
                    self.answers = command & COMMAND_MEMORY != 0;
                }
                self.backing.write_configuration(at, data);
            }
        }
    }

    fn set_bar(&mut self, index: usize, value: u32) {
        let upper = self.bars.get(index).is_some_and(|bar| bar.upper);
        let low = if upper { index - 1 } else { index };
        let Some(bar) = self.bars.get_mut(low).filter(|bar| bar.bytes != 0) else {
            return;
        };
        let value = match upper {
            true => bar.base & 0xffff_ffff | u64::from(value) << 32,
            false => bar.base & !0xffff_ffff | u64::from(value),
        };
        bar.base = value & !(bar.bytes - 1);
    }

    /// The registers at a physical address.
    fn find(&self, pa: u64, len: usize) -> Option<(usize, u64)> {
        if !self.answers {
            return None;
        }
        let bars = self.bars.iter().enumerate();
        let mut bars = bars.filter(|(_, bar)| bar.bytes != 0 && bar.base != 0);
        bars.find_map(|(index, bar)| {
            let offset = pa.checked_sub(bar.base)?;
            let fits = offset < bar.bytes && len as u64 <= bar.bytes - offset;
            fits.then_some((index, offset))
        })
    }

    /// Reads up to 8 bytes of registers, if some are at that address; whether they are.
    pub fn read_memory(&self, pa: u64, data: &mut [u8]) -> bool {
        let found = self.find(pa, data.len());
        if let Some((bar, offset)) = found {
            self.backing.read(bar, offset, data);
        }
        found.is_some()
    }

    /// As [`Function::read_memory`], but writes.
    pub fn write_memory(&self, pa: u64, data: &[u8]) -> bool {
        let found = self.find(pa, data.len());
        if let Some((bar, offset)) = found {
            self.backing.write(bar, offset, data);
        }
        found.is_some()
    }
}

/// What base address registers there are: of memory, and of a length that is one.
fn bars(backing: &impl Backing) -> [Bar; 6] {
    let mut bars = [Bar::default(); 6];
    let mut upper = false;
    for index in 0..bars.len() {
        if std::mem::take(&mut upper) {
            bars[index].upper = true;
            continue;
        }
        let mut data = [0; 4];
        // Of 6.
        let at = FIRST_BAR + 4 * index as u16;
        backing.read_configuration(at, &mut data);
        let kind = u32::from_le_bytes(data) & 0xf;
        let bytes = backing.bytes(index);
        let ports = kind & 1 != 0;
        let wide = !ports && kind & 6 == 4 && index + 1 < bars.len();
        upper = wide;
        if !ports && bytes.is_power_of_two() && bytes >= 16 {
            bars[index] = Bar {
                bytes,
                kind,
                ..Bar::default()
            };
        }
    }
    bars
}

#[cfg(test)]
pub mod fake {
    use std::cell::RefCell;

    use super::Backing;

    /// A device that is not there.
    pub struct Fake {
        pub configuration: RefCell<[u8; 256]>,
        pub registers: RefCell<Vec<u8>>,
    }

    impl Fake {
        /// With 16 KiB of registers at 64 bits, and MSI-X between two other capabilities.
        pub fn nvme() -> Self {
            let mut c = [0; 256];
            c[..4].copy_from_slice(&[0x36, 0x1b, 0x10, 0x00]);
            c[6] = 0x10;
            c[0x0e] = 0x80;
            c[0x10] = 4;
            // Ports.
            c[0x18] = 1;
            c[0x34] = 0x40;
            c[0x40..0x42].copy_from_slice(&[0x10, 0x60]);
            c[0x60..0x64].copy_from_slice(&[0x11, 0x80, 0x40, 0x00]);
            c[0x80..0x82].copy_from_slice(&[0x01, 0]);
            c[0x3d] = 1;
            Fake {
                configuration: RefCell::new(c),
                registers: RefCell::new(vec![0; 16 << 10]),
            }
        }
    }

    impl Backing for Fake {
        fn read_configuration(&self, register: u16, data: &mut [u8]) {
            let all = self.configuration.borrow();
            data.copy_from_slice(&all[usize::from(register)..][..data.len()]);
        }

        fn write_configuration(&self, register: u16, data: &[u8]) {
            let mut all = self.configuration.borrow_mut();
            all[usize::from(register)..][..data.len()].copy_from_slice(data);
        }

        fn bytes(&self, bar: usize) -> u64 {
            match bar {
                0 => 16 << 10,
                2 => 32,
                _ => 0,
            }
        }

        fn read(&self, _: usize, offset: u64, data: &mut [u8]) {
            let all = self.registers.borrow();
            data.copy_from_slice(&all[offset as usize..][..data.len()]);
        }

        fn write(&self, _: usize, offset: u64, data: &[u8]) {
            let mut all = self.registers.borrow_mut();
            all[offset as usize..][..data.len()].copy_from_slice(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::Fake;
    use super::*;

    fn word(f: &Function<Fake>, at: u16) -> u32 {
        let mut data = [0; 4];
        f.read_configuration(at, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(f: &mut Function<Fake>, at: u16, value: u32) {
        f.write_configuration(at, &value.to_le_bytes());
    }

    #[test]
    fn a_guest_finds_out_how_long_registers_are() {
        let mut f = Function::new(Fake::nvme());
        for at in [0x10, 0x14, 0x18, 0x24] {
            set(&mut f, at, u32::MAX);
        }
        assert_eq!(word(&f, 0x10), 0xffff_c004);
        assert_eq!(word(&f, 0x14), u32::MAX);
        assert_eq!((word(&f, 0x18), word(&f, 0x24)), (0, 0), "no ports");
        set(&mut f, 0x30, u32::MAX);
        assert_eq!(word(&f, 0x30), 0, "no ROM");
    }

    #[test]
    fn registers_answer_when_they_are_told_to() {
        let mut f = Function::new(Fake::nvme());
        set(&mut f, 0x10, 0x2000_0000);
        set(&mut f, 0x14, 1);
        let base = 0x1_2000_0000;
        let mut data = [0; 8];
        assert!(!f.read_memory(base, &mut data));
        f.write_configuration(0x04, &[6, 0]);
        assert!(f.read_memory(base, &mut data));
        assert!(f.read_memory(base + 0x3ff8, &mut data));
        assert!(
            !f.read_memory(base + 0x3ffc, &mut data),
            "half of it is beyond"
        );
        assert!(!f.read_memory(base - 8, &mut data));
        assert!(f.write_memory(base + 8, &[1; 4]));
        assert!(f.read_memory(base + 8, &mut data));
        assert_eq!(data, [1, 1, 1, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn there_are_no_messages() {
        let mut f = Function::new(Fake::nvme());
        let mut found = Vec::new();
        let mut at = word(&f, 0x34) as u16;
        while at != 0 {
            let head = word(&f, at);
            found.push(head as u8);
            at = u16::from((head >> 8) as u8);
        }
        assert_eq!(found, [0x10, 0x01]);
        // Nor can they be switched on by who knows where they are.
        set(&mut f, 0x60, 0x8000_0000);
        f.write_configuration(0x62, &[0, 0x80]);
        assert_eq!(f.backing.configuration.borrow()[0x63], 0);
        assert_eq!(word(&f, 0x100), 0, "no extended ones either");
    }

    #[test]
    fn what_comes_right_behind_hidden_ones_can_be_written() {
        // Their control words, and how long they are (6.8.1): MSI in all forms, and MSI-X.
        for (kind, control, bytes) in [
            (0x05, 0x0000, 12),
            (0x05, 0x0080, 16),
            (0x05, 0x0100, 20),
            (0x05, 0x0180, 24),
            (0x11, 0x8181_u16, 12),
        ] {
            let fake = Fake::nvme();
            let next = 0x60 + bytes;
            {
                let mut c = fake.configuration.borrow_mut();
                c[0x60..0x64].copy_from_slice(&[kind, next, 0, 0]);
                c[0x62..0x64].copy_from_slice(&control.to_le_bytes());
                // A device's own.
                c[usize::from(next)..][..4].copy_from_slice(&[0x09, 0, 8, 0]);
            }
            let mut f = Function::new(fake);
            for at in (0x60..u16::from(next)).step_by(4) {
                let before = word(&f, at);
                set(&mut f, at, 0x5a5a_5a5a);
                assert_eq!(word(&f, at), before, "{kind:#x} {control:#x} {at:#x}");
            }
            set(&mut f, u16::from(next) + 4, 0x5a5a_5a5a);
            assert_eq!(word(&f, u16::from(next) + 4), 0x5a5a_5a5a, "{kind:#x}");
        }
    }

    #[test]
    fn the_line_is_the_guests_and_the_pin_the_devices() {
        let mut f = Function::new(Fake::nvme());
        f.write_configuration(0x3c, &[42]);
        f.write_configuration(0x3d, &[3]);
        assert_eq!(word(&f, 0x3c), 0x012a);
        assert_eq!(f.backing.configuration.borrow()[0x3c], 0);
        assert_eq!(word(&f, 0x0c) >> 16 & 0xff, 0, "one function");
    }

    #[test]
    fn whatever_is_accessed_and_whatever_the_device_says_nothing_breaks() {
        let fake = Fake::nvme();
        // A list that goes round.
        fake.configuration.borrow_mut()[0x81] = 0x40;
        let mut f = Function::new(fake);
        for at in (0..0x1000).chain([u16::MAX - 3, u16::MAX]) {
            for len in [1, 2, 4, 8] {
                f.read_configuration(at, &mut [0; 8][..len]);
                if !(0xf8..0x100).contains(&at) {
                    f.write_configuration(at, &[0xff; 8][..len]);
                }
            }
        }
    }
}
