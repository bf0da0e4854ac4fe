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
    let images = Images::open(kernel.path(), Some(initrd.path())).unwrap();
    let layout = images.layout(RAM).unwrap();
    assert_eq!(layout.kernel, RAM_BASE + 2 * MIB..RAM_BASE + 5 * MIB);
    assert_eq!(layout.fdt, RAM_BASE + 6 * MIB..RAM_BASE + 8 * MIB);
    let initrd = layout.initrd.clone().unwrap();
    assert_eq!(initrd, layout.fdt.end..layout.fdt.end + 10);
    assert!(layout.entry + 64 < layout.kernel.start);

    let memory = memory(RAM);
    images
        .load(&memory, &layout, b"the fdt", &Expected::default())
        .unwrap();
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
    let images = Images::open(kernel.path(), None).unwrap();
    let layout = images.layout(RAM).unwrap();
    let (a, b) = (memory(RAM), memory(RAM));
    images
        .load(&a, &layout, b"fdt", &Expected::default())
        .unwrap();
    images
        .load(&b, &layout, b"fdt", &Expected::default())
        .unwrap();
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
    let images = Images::open(kernel.path(), None).unwrap();
    let layout = images.layout(RAM).unwrap();
    let fdt = vec![0; 2 * MIB as usize + 1];
    assert!(matches!(
        images.load(&memory(RAM), &layout, &fdt, &Expected::default()),
        Err(BootError::FdtTooLarge { .. })
    ));
    // Memory that is smaller than the layout's is an error, not a panic.
    assert!(matches!(
        images.load(&memory(MIB), &layout, b"", &Expected::default()),
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

#[test]
fn a_file_that_ends_before_its_entry_is_cut_short() {
    let cut = |code: [u32; 2], bytes| {
        let kernel = image(bytes, MIB, 0);
        let mut contents = std::fs::read(kernel.path()).unwrap();
        for (n, word) in code.iter().enumerate() {
            contents[4 * n..4 * n + 4].copy_from_slice(&word.to_le_bytes());
        }
        Images::open(file(&contents).path(), None)
    };
    const NOP: u32 = 0xd503_201f;
    // b . + 0x1000, as the first word or the second; b . - 4, which no kernel has.
    for (code, entry) in [([0x1400_0400, NOP], 0x1000), ([NOP, 0x1400_0400], 0x1004)] {
        match cut(code, entry) {
            Err(e @ BootError::Truncated { .. }) => {
                assert!(e.to_string().contains(&format!("has {entry} bytes")), "{e}");
                assert!(!e.help().is_empty());
            }
            other => panic!("{other:?}"),
        }
        cut(code, entry + 4).unwrap();
    }
    cut([NOP, 0x17ff_ffff], 64).unwrap();
}

#[test]
fn a_file_that_ends_before_its_sections_is_cut_short() {
    // "MZ", a PE header at 64 with an optional header of 16 bytes, and two sections.
    let mut bytes = std::fs::read(image(4096, MIB, 0).path()).unwrap();
    bytes[..2].copy_from_slice(b"MZ");
    bytes[60..64].copy_from_slice(&64u32.to_le_bytes());
    bytes[64..68].copy_from_slice(b"PE\0\0");
    bytes[70..72].copy_from_slice(&2u16.to_le_bytes());
    bytes[84..86].copy_from_slice(&16u16.to_le_bytes());
    for (n, (start, size)) in [(1024u32, 1024u32), (2048, 2048)].into_iter().enumerate() {
        let at = 64 + 24 + 16 + 40 * n;
        bytes[at + 16..at + 20].copy_from_slice(&size.to_le_bytes());
        bytes[at + 20..at + 24].copy_from_slice(&start.to_le_bytes());
    }
    Images::open(file(&bytes).path(), None).unwrap();
    for len in [4095, 200, 100, 80] {
        let error = Images::open(file(&bytes[..len]).path(), None).unwrap_err();
        assert!(
            matches!(error, BootError::Truncated { .. }),
            "{len}: {error}"
        );
    }
}

#[test]
fn the_hash_is_of_what_is_loaded_and_another_is_refused() {
    let (kernel, initrd) = (image(3 * MIB as usize + 5, 4 * MIB, 0), file(b"the initrd"));
    let images = Images::open(kernel.path(), Some(initrd.path())).unwrap();
    let layout = images.layout(RAM).unwrap();
    let memory = memory(RAM);
    let load = |expected: &Expected| images.load(&memory, &layout, b"fdt", expected);
    let loaded = load(&Expected::default()).unwrap();
    let whole = std::fs::read(kernel.path()).unwrap();
    assert_eq!(loaded.kernel, digest::bytes(whole));
    assert_eq!(loaded.initrd, Some(digest::bytes(b"the initrd")));
    let expected = Expected {
        kernel: Some(loaded.kernel.clone()),
        initrd: loaded.initrd.clone(),
    };
    assert_eq!(load(&expected).unwrap(), loaded);
    // Named so, they are taken for that.
    let named = Expected {
        kernel: Some("name".into()),
        initrd: None,
    };
    let again = images.named(&layout, &named).unwrap();
    assert_eq!((&*again.kernel, &again.initrd), ("name", &loaded.initrd));
    let len = std::fs::metadata(kernel.path()).unwrap().len();
    kernel.as_file().set_len(len + 1).unwrap();
    let longer = images.named(&layout, &named).unwrap();
    assert_eq!(longer, loaded, "what comes behind it is not loaded");
    kernel.as_file().set_len(len).unwrap();
    for wrong in [
        Expected {
            kernel: Some("00".into()),
            ..expected.clone()
        },
        Expected {
            initrd: Some("00".into()),
            ..expected
        },
    ] {
        let error = load(&wrong).unwrap_err();
        assert!(matches!(error, BootError::Changed { .. }), "{error}");
    }
}

#[test]
fn the_pieces_are_what_is_loaded() {
    use std::os::unix::fs::FileExt as _;

    let (kernel, initrd) = (image(3 * MIB as usize + 5, 4 * MIB, 0), file(b"the initrd"));
    let images = Images::open(kernel.path(), Some(initrd.path())).unwrap();
    let layout = images.layout(RAM).unwrap();
    let loaded = memory(RAM);
    images
        .load(&loaded, &layout, b"fdt", &Expected::default())
        .unwrap();
    let pieced = memory(RAM);
    for (at, piece) in images.pieces(&layout, b"fdt").unwrap() {
        let bytes = match piece {
            Piece::Bytes(_, bytes) => bytes.into_owned(),
            Piece::File(image) => {
                let mut bytes = vec![0; image.len as usize];
                image.file.read_exact_at(&mut bytes, 0).unwrap();
                bytes
            }
        };
        pieced.write_slice(&bytes, GuestAddress(at)).unwrap();
    }
    let all = |memory: &GuestMemoryMmap| {
        let mut bytes = vec![0; RAM as usize];
        let read = memory.read_slice(&mut bytes, GuestAddress(RAM_BASE));
        read.map(|()| bytes).unwrap()
    };
    assert!(all(&loaded) == all(&pieced));
}
