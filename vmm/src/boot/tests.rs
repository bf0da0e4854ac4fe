// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use super::*;
use std::io::Write;
use tempfile::NamedTempFile;

const RAM: u64 = 32 * MIB;

/// An Image of `file_bytes` that claims `image_size`.
fn image(file_bytes: usize, image_size: u64, flags: u64) -> NamedTempFile {
    let mut bytes = vec![0xa5; file_bytes];
    bytes[8..16].copy_from_slice(&0u64.to_le_bytes());
    bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
    bytes[24..32].copy_from_slice(&flags.to_le_bytes());
    bytes[56..60].copy_from_slice(b"ARM\x64");
    file(&bytes)
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn memory(bytes: u64) -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM_BASE), bytes as usize)]).unwrap()
}

fn bytes(memory: &GuestMemoryMmap, at: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    memory.read_slice(&mut buf, GuestAddress(at)).unwrap();
    buf
}

#[test]
fn images_are_apart_aligned_and_where_the_layout_says() {
    let kernel = image(5000, 3 * MIB, 0b1010);
    let initrd = file(b"the initrd");
    let mut images = Images::open(kernel.path(), Some(initrd.path())).unwrap();
    let layout = images.layout(RAM).unwrap();
    assert_eq!(layout.kernel, RAM_BASE + 2 * MIB..RAM_BASE + 5 * MIB);
    assert_eq!(layout.fdt, RAM_BASE + 6 * MIB..RAM_BASE + 8 * MIB);
    let initrd = layout.initrd.clone().unwrap();
    assert_eq!(initrd, layout.fdt.end..layout.fdt.end + 10);
    assert!(layout.entry + 64 < layout.kernel.start);

    let memory = memory(RAM);
    images.load(&memory, &layout, b"the fdt").unwrap();
    assert_eq!(bytes(&memory, layout.kernel.start + 56, 4), b"ARM\x64");
    assert_eq!(bytes(&memory, layout.kernel.start + 4999, 2), [0xa5, 0]);
    assert_eq!(bytes(&memory, layout.fdt.start, 7), b"the fdt");
    assert_eq!(bytes(&memory, initrd.start, 10), b"the initrd");
    assert_eq!(
        bytes(&memory, layout.entry, 40),
        stub::encode(layout.kernel.start, layout.fdt.start)
    );
}

#[test]
fn loading_twice_gives_the_same() {
    let kernel = image(5000, MIB, 0);
    let mut images = Images::open(kernel.path(), None).unwrap();
    let layout = images.layout(RAM).unwrap();
    let (a, b) = (memory(RAM), memory(RAM));
    images.load(&a, &layout, b"fdt").unwrap();
    images.load(&b, &layout, b"fdt").unwrap();
    let all = |m| bytes(m, RAM_BASE, RAM as usize);
    assert!(all(&a) == all(&b));
}

#[test]
fn what_is_no_image_is_named() {
    for (contents, word) in [
        (&[0x1f, 0x8b, 8][..], "gzip"),
        (b"\x7fELF", "ELF"),
        (b"MZ\0\0zimg", "zboot"),
        (b"hello", "magic"),
    ] {
        let mut bytes = vec![0; 64];
        bytes[..contents.len()].copy_from_slice(contents);
        let error = Images::open(file(&bytes).path(), None).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    for (kernel, word) in [
        (file(b"short"), "shorter"),
        (image(100, 0, 0), "3.17"),
        (image(100, MIB, FLAG_BIG_ENDIAN), "big-endian"),
    ] {
        let error = Images::open(kernel.path(), None).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    const FLAG_BIG_ENDIAN: u64 = 1;
}

#[test]
fn what_does_not_fit_is_refused() {
    let kernel = image(100, 40 * MIB, 0);
    let error = Images::open(kernel.path(), None).unwrap().layout(RAM);
    assert!(matches!(
        error,
        Err(BootError::RamTooSmall { ram: RAM, .. })
    ));
    for (text_offset, memory_bytes) in [(u64::MAX, 1), (0, u64::MAX), (1 << 63, 1 << 63)] {
        let hostile = ImageHeader {
            text_offset,
            file_bytes: 64,
            memory_bytes,
        };
        assert!(Layout::new(&hostile, Some(u64::MAX), RAM).is_err());
    }

    let kernel = image(100, MIB, 0);
    let mut images = Images::open(kernel.path(), None).unwrap();
    let layout = images.layout(RAM).unwrap();
    let fdt = vec![0; 2 * MIB as usize + 1];
    assert!(matches!(
        images.load(&memory(RAM), &layout, &fdt),
        Err(BootError::FdtTooLarge { .. })
    ));
    // Memory that is smaller than the layout's is an error, not a panic.
    assert!(matches!(
        images.load(&memory(MIB), &layout, b""),
        Err(BootError::Write { .. })
    ));
}

#[test]
fn missing_files_are_named() {
    let error = Images::open(Path::new("/nonexistent/Image"), None).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/Image"));
    let error = Images::open(Path::new("/"), None).unwrap_err();
    assert!(matches!(error, BootError::Read { .. }));
}
