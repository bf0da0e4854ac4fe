// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Guest image loading: where kernel, device tree and initrd stand in guest RAM, and how the CPU
//! gets there. Both engines load alike.
//!
//! The rules are those of the kernel's `Documentation/arch/arm64/booting.rst`.

mod image;
mod stub;

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use staleline_support::digest;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

pub use image::{HEADER_BYTES, ImageHeader, MOST_BYTES, is_image};

/// Guest RAM starts here on every board, as on QEMU's `virt`.
pub const RAM_BASE: u64 = 0x4000_0000;

/// Bytes hashed at a time.
const CHUNK: usize = 1 << 20;

const MIB: u64 = 1 << 20;
/// The kernel's base must be aligned to this, and no device tree may be larger.
const BLOCK: u64 = 2 * MIB;
/// Below the kernel, above the first MiB: at a reset without `-kernel`, QEMU writes a device tree
/// of its own, of up to 1 MiB, to the start of RAM.
const STUB_OFFSET: u64 = 0x1f_0000;

/// Why a guest cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no arm64 boot image.
    #[error("{} is not an arm64 kernel Image: {why}", path.display())]
    NotAnImage {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what to give instead.
        why: String,
    },
    /// The file ends before the kernel does.
    #[error("{} is cut short: it has {bytes} bytes, {why}", path.display())]
    Truncated {
        /// Which file.
        path: PathBuf,
        /// Its length in bytes.
        bytes: u64,
        /// How that is known.
        why: String,
    },
    /// A file is not what it was when it was made.
    #[error(
        "{} is not what it was when it was made: its SHA-256 is {found}, and was {expected}",
        path.display()
    )]
    Changed {
        /// Which file.
        path: PathBuf,
        /// The hash it should have.
        expected: String,
        /// The hash of what was read.
        found: String,
    },
    /// The device tree blob breaks the boot protocol.
    #[error("the device tree has {len} bytes; the boot protocol allows {max}")]
    FdtTooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: u64,
    },
    /// Guest RAM is too small for what has to be loaded.
    #[error("guest RAM of {ram} bytes is too small: the images need {needed}")]
    RamTooSmall {
        /// Size of guest RAM in bytes.
        ram: u64,
        /// Bytes from the start of RAM to the end of the last image.
        needed: u64,
    },
    /// Copying into guest RAM failed.
    #[error("cannot write {what} into guest RAM")]
    Write {
        /// What was being written.
        what: &'static str,
        /// Why.
        source: GuestMemoryError,
    },
}

impl BootError {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            BootError::Read { .. } => "check the path and its permissions",
            BootError::NotAnImage { .. } => {
                "give the uncompressed arch/arm64/boot/Image of an arm64 build"
            }
            BootError::Truncated { .. } => {
                "copy or build it again; was the disk full when it was written?"
            }
            BootError::Changed { .. } => {
                "if it is in the cache, remove the directory it is in (of an initramfs, the file) \
                 and run the same again: it is built anew"
            }
            BootError::FdtTooLarge { .. } => "the board description is at fault; please report it",
            BootError::RamTooSmall { .. } => "give the board more memory, or use a smaller initrd",
            BootError::Write { .. } => "this is an internal error; please report it",
        }
    }
}

/// Where everything stands in guest RAM. Depends on nothing but the sizes of the images, so that
/// the author of a device tree can compute it beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// First instruction that the CPU executes.
    pub entry: u64,
    /// The kernel, from its first byte to the end of its bss.
    pub kernel: Range<u64>,
    /// Room for the device tree.
    pub fdt: Range<u64>,
    /// The initrd, for `linux,initrd-start` and `-end`.
    pub initrd: Option<Range<u64>>,
}

impl Layout {
    /// Lays out `ram_bytes` of RAM from [`RAM_BASE`] on.
    ///
    /// # Errors
    /// [`BootError::RamTooSmall`].
    pub fn new(
        kernel: &ImageHeader,
        initrd_bytes: Option<u64>,
        ram_bytes: u64,
    ) -> Result<Self, BootError> {
        // Saturation stands for "far too large" and ends in the comparison below.
        let start = (RAM_BASE + BLOCK).saturating_add(kernel.text_offset);
        let kernel = start..start.saturating_add(kernel.memory_bytes);
        let fdt = kernel.end.checked_next_multiple_of(BLOCK);
        let fdt = fdt.unwrap_or(u64::MAX);
        let fdt = fdt..fdt.saturating_add(BLOCK);
        let initrd = initrd_bytes.map(|len| fdt.end..fdt.end.saturating_add(len));
        let end = initrd.as_ref().map_or(fdt.end, |initrd| initrd.end);
        if end - RAM_BASE > ram_bytes {
            return Err(BootError::RamTooSmall {
                ram: ram_bytes,
                needed: end - RAM_BASE,
            });
        }
        Ok(Layout {
            entry: RAM_BASE + STUB_OFFSET,
            kernel,
            fdt,
            initrd,
        })
    }
}

/// SHA-256 of the files that a guest should boot from, in hexadecimal, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The kernel.
    pub kernel: Option<String>,
    /// The initrd.
    pub initrd: Option<String>,
}

/// What stands in guest RAM when the guest starts: SHA-256, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// The kernel.
    pub kernel: String,
    /// Where its first byte stands.
    pub kernel_at: u64,
    /// The initrd, if there is one.
    pub initrd: Option<String>,
}

/// The files a guest boots from.
#[derive(Debug)]
pub struct Images {
    kernel: (PathBuf, File),
    header: ImageHeader,
    initrd: Option<(PathBuf, File, u64)>,
}

impl Images {
    /// Opens and checks them.
    ///
    /// # Errors
    /// [`BootError::Read`], [`BootError::NotAnImage`].
    pub fn open(kernel: &Path, initrd: Option<&Path>) -> Result<Self, BootError> {
        let (mut file, len) = open(kernel)?;
        let header = ImageHeader::read(&mut file, len, kernel)?;
        let initrd = match initrd {
            None => None,
            Some(path) => {
                let (file, len) = open(path)?;
                Some((path.to_owned(), file, len))
            }
        };
        Ok(Images {
            kernel: (kernel.to_owned(), file),
            header,
            initrd,
        })
    }

    /// Where they will stand in `ram_bytes` of guest RAM.
    ///
    /// # Errors
    /// [`BootError::RamTooSmall`].
    pub fn layout(&self, ram_bytes: u64) -> Result<Layout, BootError> {
        let initrd = self.initrd.as_ref().map(|(_, _, len)| *len);
        Layout::new(&self.header, initrd, ram_bytes)
    }

    /// Copies the images, `fdt` and the entry stub into `memory`, which must have `layout`'s RAM.
    ///
    /// # Errors
    /// [`BootError`] if a file cannot be read or is not as `expected`, or the images do not fit.
    pub fn load(
        &self,
        memory: &GuestMemoryMmap,
        layout: &Layout,
        fdt: &[u8],
        expected: &Expected,
    ) -> Result<Loaded, BootError> {
        let mut loaded = Loaded {
            kernel: String::new(),
            kernel_at: layout.kernel.start,
            initrd: None,
        };
        for (at, piece) in self.pieces(layout, fdt)? {
            match piece {
                Piece::File(image) => {
                    let found = copy(memory, &image, at)?;
                    check(image.path, &found, expected.of(image.which))?;
                    match image.which {
                        Which::Kernel => loaded.kernel = found,
                        Which::Initrd => loaded.initrd = Some(found),
                    }
                }
                Piece::Bytes(what, bytes) => {
                    let written = memory.write_slice(&bytes, GuestAddress(at));
                    written.map_err(|source| BootError::Write { what, source })?;
                }
            }
        }
        Ok(loaded)
    }

    /// What stands in RAM when it is loaded elsewhere, by its [`pieces`](Self::pieces), of files that are named by
    /// their content and were compared with their names when they came: they are not hashed again. Of what has no
    /// name here, the hash is found out.
    ///
    /// # Errors
    /// [`BootError::Read`].
    pub fn named(&self, layout: &Layout, names: &Expected) -> Result<Loaded, BootError> {
        let name = |image: ImageFile<'_>| {
            let read = |source| BootError::Read {
                path: image.path.to_owned(),
                source,
            };
            let all = image.file.metadata().map_err(read)?.len();
            match names.of(image.which) {
                // What comes behind the image in its file is not loaded.
                Some(name) if all == image.len => Ok(name.clone()),
                _ => digest::reader(Part(image, 0)).map_err(read),
            }
        };
        Ok(Loaded {
            kernel: name(self.kernel())?,
            kernel_at: layout.kernel.start,
            initrd: self.initrd().map(name).transpose()?,
        })
    }

    fn kernel(&self) -> ImageFile<'_> {
        let (path, file) = &self.kernel;
        ImageFile {
            which: Which::Kernel,
            path,
            file,
            len: self.header.file_bytes,
        }
    }

    fn initrd(&self) -> Option<ImageFile<'_>> {
        let (path, file, len) = self.initrd.as_ref()?;
        Some(ImageFile {
            which: Which::Initrd,
            path,
            file,
            len: *len,
        })
    }

    /// All that stands in RAM at the start, beside zeros, with physical addresses: pieces of files, and bytes.
    ///
    /// # Errors
    /// [`BootError::FdtTooLarge`].
    pub fn pieces<'a>(
        &'a self,
        layout: &Layout,
        fdt: &'a [u8],
    ) -> Result<Vec<(u64, Piece<'a>)>, BootError> {
        if fdt.len() as u64 > BLOCK {
            return Err(BootError::FdtTooLarge {
                len: fdt.len(),
                max: BLOCK,
            });
        }
        let stub = stub::encode(layout.kernel.start, layout.fdt.start);
        let mut pieces = vec![
            (layout.kernel.start, Piece::File(self.kernel())),
            (
                layout.fdt.start,
                Piece::Bytes("the device tree", fdt.into()),
            ),
            (layout.entry, Piece::Bytes("the entry stub", stub.into())),
        ];
        if let (Some(initrd), Some(range)) = (self.initrd(), &layout.initrd) {
            pieces.push((range.start, Piece::File(initrd)));
        }
        Ok(pieces)
    }
}

fn check(path: &Path, found: &str, expected: Option<&String>) -> Result<(), BootError> {
    match expected {
        Some(expected) if expected != found => Err(BootError::Changed {
            path: path.to_owned(),
            expected: expected.clone(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<(File, u64), BootError> {
    let read = |source| BootError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(read(std::io::Error::other("not a regular file")));
    }
    Ok((file, metadata.len()))
}

/// Copies a file into guest memory; the hash is that of what stands there then.
fn copy(memory: &GuestMemoryMmap, image: &ImageFile<'_>, at: u64) -> Result<String, BootError> {
    use std::io::Seek;
    let ImageFile { path, mut file, .. } = *image;
    let read = |source| BootError::Read {
        path: path.to_owned(),
        source,
    };
    file.rewind().map_err(read)?;
    let len = usize::try_from(image.len);
    let len = len.map_err(|_| read(std::io::ErrorKind::FileTooLarge.into()))?;
    let failed = |source| BootError::Write {
        what: "an image",
        source,
    };
    memory
        .read_exact_volatile_from(GuestAddress(at), &mut file, len)
        .map_err(failed)?;
    let loaded = InMemory { memory, at, len };
    digest::reader(BufReader::with_capacity(CHUNK, loaded)).map_err(read)
}

impl Expected {
    fn of(&self, which: Which) -> Option<&String> {
        match which {
            Which::Kernel => self.kernel.as_ref(),
            Which::Initrd => self.initrd.as_ref(),
        }
    }
}

/// Which of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The kernel.
    Kernel,
    /// The initrd.
    Initrd,
}

/// The part of a file that is loaded: from its first byte on.
#[derive(Debug, Clone, Copy)]
pub struct ImageFile<'a> {
    /// Which it is.
    pub which: Which,
    /// Where it is.
    pub path: &'a Path,
    /// It, open.
    pub file: &'a File,
    /// Bytes.
    pub len: u64,
}

/// Something that stands in RAM at the start.
#[derive(Debug)]
pub enum Piece<'a> {
    /// An image.
    File(ImageFile<'a>),
    /// Bytes, and what they are.
    Bytes(&'static str, Cow<'a, [u8]>),
}

/// An image, read in order, and how much of it was.
struct Part<'a>(ImageFile<'a>, u64);

impl Read for Part<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let Part(image, at) = self;
        let left = usize::try_from(image.len - *at).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        let n = image.file.read_at(&mut buf[..len], *at)?;
        *at += n as u64;
        Ok(n)
    }
}

/// Guest memory, read in order.
struct InMemory<'a> {
    memory: &'a GuestMemoryMmap,
    at: u64,
    len: usize,
}

impl Read for InMemory<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = buf.len().min(self.len);
        let part = &mut buf[..len];
        let read = self.memory.read_slice(part, GuestAddress(self.at));
        read.map_err(std::io::Error::other)?;
        self.at += len as u64;
        self.len -= len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests;
