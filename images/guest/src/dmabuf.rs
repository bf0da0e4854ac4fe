// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! DMABUFs: who allocates them, how user space waits for and touches them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, SealFlags};
use staleline_protocol::pattern::{Mismatch, Pattern, WORD};
use staleline_protocol::plan::Exporter;
use staleline_protocol::report::refusal;

use crate::error::{Context, Error};
use crate::sys::{self, Mapping, Mode};
use crate::{pagemap, uapi};

/// Longest time a transfer may take, in seconds of guest time.
pub const TRANSFER_SECONDS: u64 = 10;

const HEAPS: &str = "/dev/dma_heap";
const UDMABUF: &str = "/dev/udmabuf";

/// What user space is about to do through the mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Loads only.
    Read,
    /// Stores only.
    Write,
    /// Loads and stores; also stores to a part of a cache line whose rest somebody else has written.
    ReadWrite,
}

impl Access {
    fn flags(self) -> u64 {
        match self {
            Access::Read => uapi::DMA_BUF_SYNC_READ,
            Access::Write => uapi::DMA_BUF_SYNC_WRITE,
            Access::ReadWrite => uapi::DMA_BUF_SYNC_READ | uapi::DMA_BUF_SYNC_WRITE,
        }
    }
}

/// Which fences to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fences {
    /// Devices that write the buffer: then it can be read.
    Writers,
    /// Devices that read or write it: then it can be written.
    All,
}

/// A DMABUF, mapped but untouched.
#[derive(Debug)]
pub struct DmaBuf {
    fd: OwnedFd,
    mapping: Mapping,
    /// Order of allocation.
    pub index: u32,
    exporter: Exporter,
    extents: Vec<(u64, u64)>,
}

impl AsFd for DmaBuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl DmaBuf {
    /// Allocates `bytes` (a multiple of the page size) and maps them.
    ///
    /// The mapping is not touched: a load or store would change what the caches hold, and with it
    /// the outcome of the run. Physical extents are known for udmabuf only, through a mapping of
    /// the memfd itself; the kernel does not tell those of a mapped DMABUF. The heaps' are
    /// pointed out to the engine: at once where the heap maps all pages at once (system), else
    /// at the end, when all that were used are there (cma).
    pub fn allocate(exporter: Exporter, index: u32, bytes: u64) -> Result<Self, Error> {
        let fd = match exporter {
            Exporter::Udmabuf => return Memory::new(bytes)?.udmabuf(index, 0, bytes),
            Exporter::System => heap(&Path::new(HEAPS).join("system"), bytes)?,
            Exporter::Cma => heap(&cma_heap(Path::new(HEAPS))?, bytes)?,
            Exporter::Iio => heap(&Path::new(HEAPS).join("iio"), bytes)?,
        };
        DmaBuf::of(fd, exporter, index, size(bytes)?, Vec::new())
    }

    fn of(
        fd: OwnedFd,
        exporter: Exporter,
        index: u32,
        len: usize,
        extents: Vec<(u64, u64)>,
    ) -> Result<Self, Error> {
        let mapping = Mapping::new(&fd, len, Mode::ReadWrite).call("mmap", "DMABUF")?;
        let buffer = DmaBuf {
            fd,
            mapping,
            index,
            exporter,
            extents,
        };
        buffer.point_out();
        Ok(buffer)
    }

    fn point_out(&self) {
        if self.extents.is_empty() {
            self.mapping.point_out(rustix::param::page_size());
        }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Who has allocated it.
    pub fn exporter(&self) -> Exporter {
        self.exporter
    }

    /// Where it is mapped.
    pub fn address(&self) -> usize {
        self.mapping.address()
    }

    /// Physical `(first byte, length)` ranges in order; empty if they are not known.
    pub fn extents(&self) -> &[(u64, u64)] {
        &self.extents
    }

    /// Waits until the fences of transfers queued so far have signalled.
    pub fn wait(&self, fences: Fences) -> Result<(), Error> {
        let events = match fences {
            Fences::Writers => PollFlags::IN,
            Fences::All => PollFlags::OUT,
        };
        let timeout = Timespec {
            tv_sec: TRANSFER_SECONDS.cast_signed(),
            tv_nsec: 0,
        };
        let mut fd = [PollFd::new(&self.fd, events)];
        let n = rustix::event::poll(&mut fd, Some(&timeout)).call("poll", self.name())?;
        if n == 0 {
            return Err(Error::Timeout {
                what: format!("the transfer on {}", self.name()),
                seconds: TRANSFER_SECONDS,
            });
        }
        Ok(())
    }

    /// Starts an access by the CPU, announced to the kernel if `sync`. Wait for the fences first:
    /// in 6.12 the exporter's cache maintenance runs before the ioctl waits for them
    /// (dma_buf_begin_cpu_access in drivers/dma-buf/dma-buf.c), so a speculative fill during the
    /// transfer would survive it.
    pub fn cpu_access(&self, access: Access, sync: bool) -> Result<CpuAccess<'_>, Error> {
        if sync {
            sys::dma_buf_sync(self.as_fd(), access.flags())
                .call("DMA_BUF_IOCTL_SYNC start", self.name())?;
        }
        Ok(CpuAccess {
            buffer: self,
            access,
            sync,
        })
    }

    /// An access by the CPU that is only pretended: the work-around for frameworks that synchronise
    /// nothing between one device and the next.
    pub fn pretend(&self, access: Access) -> Result<(), Error> {
        self.cpu_access(access, true)?.end()
    }

    /// What came of an attempt to attach it.
    pub(crate) fn attached(
        &self,
        result: std::io::Result<()>,
        ioctl: &'static str,
        to: &str,
    ) -> Result<(), Error> {
        match result {
            Err(source) if source.raw_os_error().and_then(refusal).is_some() => {
                Err(Error::Refused {
                    buffer: self.index,
                    to: to.to_owned(),
                    source,
                })
            }
            other => other.call(ioctl, format_args!("{to} with {}", self.name())),
        }
    }

    /// How messages call it.
    pub fn name(&self) -> String {
        format!("{} DMABUF {}", self.exporter.name(), self.index)
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        self.point_out();
    }
}

/// An access by the CPU through the mapping, between the two SYNC ioctls.
#[must_use = "end() it"]
#[derive(Debug)]
pub struct CpuAccess<'a> {
    buffer: &'a DmaBuf,
    access: Access,
    sync: bool,
}

impl CpuAccess<'_> {
    /// Compares the first `bytes` with the stream from byte `position` on. Both are multiples of
    /// [`WORD`]. Each word is loaded once.
    pub fn check(&self, pattern: Pattern, position: u64, bytes: u64) -> Mismatch {
        self.check_at(0, pattern, position, bytes)
    }

    /// The same from byte `place` of the buffer on, a multiple of [`WORD`], too.
    pub fn check_at(&self, place: u64, pattern: Pattern, position: u64, bytes: u64) -> Mismatch {
        let mapping = &self.buffer.mapping;
        let mut result = Mismatch {
            bytes,
            ..Mismatch::default()
        };
        for (at, index) in words(place, position, bytes) {
            let got = mapping.load(at);
            if got != pattern.word(index) {
                let wrong = pattern.check(index * WORD as u64, &got.to_le_bytes());
                result.merge(Mismatch { bytes: 0, ..wrong });
            }
        }
        result
    }

    /// Stores the stream from byte `position` on into the first `bytes`. Both are multiples of
    /// [`WORD`].
    pub fn fill(&mut self, pattern: Pattern, position: u64, bytes: u64) {
        self.fill_at(0, pattern, position, bytes);
    }

    /// The same from byte `place` of the buffer on, a multiple of [`WORD`], too.
    pub fn fill_at(&mut self, place: u64, pattern: Pattern, position: u64, bytes: u64) {
        for (at, index) in words(place, position, bytes) {
            self.buffer.mapping.store(at, pattern.word(index));
        }
    }

    /// Ends the access.
    pub fn end(self) -> Result<(), Error> {
        if self.sync {
            sys::dma_buf_sync(
                self.buffer.as_fd(),
                self.access.flags() | uapi::DMA_BUF_SYNC_END,
            )
            .call("DMA_BUF_IOCTL_SYNC end", self.buffer.name())?;
        }
        Ok(())
    }
}

/// Byte offset in the buffer and index in the stream of each word, from byte `place` on.
fn words(place: u64, position: u64, bytes: u64) -> impl Iterator<Item = (usize, u64)> {
    let first = position / WORD as u64;
    let place = usize::try_from(place).unwrap_or(usize::MAX);
    let count = usize::try_from(bytes / WORD as u64).unwrap_or(usize::MAX);
    (0..count).map(move |i| (place.saturating_add(i * WORD), first + i as u64))
}

/// A memfd, parts of which become udmabufs. Neither IIO nor FunctionFS can be told of a DMABUF where in it
/// to begin (`bytes_used` of `struct iio_dmabuf`, `length` of `struct usb_ffs_dmabuf_transfer_req`): a
/// transfer that begins in the middle of memory is one of a DMABUF that does.
#[derive(Debug)]
pub struct Memory {
    memfd: OwnedFd,
}

impl Memory {
    /// So many bytes; a multiple of the page size.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(bytes: u64) -> Result<Self, Error> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = rustix::fs::memfd_create("staleline", flags)
            .call("memfd_create", "a udmabuf's memory")?;
        rustix::fs::ftruncate(&memfd, bytes).call("ftruncate", "memfd")?;
        rustix::fs::fcntl_add_seals(&memfd, SealFlags::SHRINK).call("F_ADD_SEALS", "memfd")?;
        Ok(Memory { memfd })
    }

    /// A udmabuf of the `bytes` from byte `offset` on, both multiples of the page size. Others may have
    /// the same.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn udmabuf(&self, index: u32, offset: u64, bytes: u64) -> Result<DmaBuf, Error> {
        let len = size(bytes)?;
        let device = open(Path::new(UDMABUF), "enable CONFIG_UDMABUF")?;
        let fd = sys::udmabuf_create(&device, self.memfd.as_fd(), offset, bytes)
            .call("UDMABUF_CREATE", UDMABUF)?;
        // Only now, so that the driver is the one that makes the kernel allocate the pages.
        let pages =
            Mapping::part(&self.memfd, offset, len, Mode::Populated).call("mmap", "memfd")?;
        let extents = pagemap::extents(&pages)?;
        DmaBuf::of(fd, Exporter::Udmabuf, index, len, extents)
    }
}

fn size(bytes: u64) -> Result<usize, Error> {
    usize::try_from(bytes).map_err(|_| Error::Missing {
        what: format!("room for a buffer of {bytes} bytes"),
        hint: "ask for less",
    })
}

fn heap(path: &Path, bytes: u64) -> Result<OwnedFd, Error> {
    let device = open(path, "enable the DMABUF_HEAPS options")?;
    sys::heap_alloc(&device, bytes).call("DMA_HEAP_IOCTL_ALLOC", path.display())
}

/// The default CMA heap is named after its area, which differs between boards: "reserved" or the
/// device-tree node. There are no others besides "system" in 6.12, and "iio" where that exports.
fn cma_heap(all: &Path) -> Result<PathBuf, Error> {
    let mut heaps: Vec<_> = std::fs::read_dir(all)
        .file("list", all)?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| !p.ends_with("system") && !p.ends_with("iio"))
        .collect();
    heaps.sort();
    heaps.into_iter().next().ok_or_else(|| Error::Missing {
        what: format!("CMA heap in {}", all.display()),
        hint: "enable CONFIG_DMABUF_HEAPS_CMA and reserve memory for CMA",
    })
}

fn open(path: &Path, hint: &'static str) -> Result<File, Error> {
    match File::options().read(true).write(true).open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::Missing {
            what: path.display().to_string(),
            hint,
        }),
        other => other.file("open", path),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_cma_heap_is_the_one_that_is_none_of_the_others() {
        let heaps = tempfile::tempdir().unwrap();
        for name in ["system", "iio"] {
            std::fs::write(heaps.path().join(name), "").unwrap();
        }
        assert!(cma_heap(heaps.path()).is_err());
        std::fs::write(heaps.path().join("reserved"), "").unwrap();
        let found = cma_heap(heaps.path()).unwrap();
        assert_eq!(found, heaps.path().join("reserved"));
    }

    fn ordinary_memory(len: usize) -> DmaBuf {
        let fd = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, len as u64).unwrap();
        DmaBuf {
            mapping: Mapping::new(&fd, len, Mode::ReadWrite).unwrap(),
            fd,
            index: 0,
            exporter: Exporter::System,
            extents: Vec::new(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_check_agrees_with_the_protocols(
            seed: u64, frame in 0u64..1000, words in 1u64..512,
            wrong in proptest::collection::vec((0usize..4096, 1u8..), 0..9),
        ) {
            let buffer = ordinary_memory(4096);
            let (position, bytes) = (frame * 4096, words * 8);
            let pattern = Pattern::new(seed);
            let mut access = buffer.cpu_access(Access::Write, false).unwrap();
            access.fill(pattern, position, bytes);
            for (at, flip) in wrong {
                let (at, shift) = (at & !7, (at & 7) * 8);
                let word = buffer.mapping.load(at);
                buffer.mapping.store(at, word ^ u64::from(flip) << shift);
            }
            let copy: Vec<u8> =
                (0..words as usize).flat_map(|i| buffer.mapping.load(i * 8).to_le_bytes()).collect();
            prop_assert_eq!(access.check(pattern, position, bytes), pattern.check(position, &copy));
            access.end().unwrap();
        }
    }

    #[test]
    fn a_part_is_filled_and_checked_where_it_is() {
        let buffer = ordinary_memory(4096);
        let pattern = Pattern::new(9);
        let mut access = buffer.cpu_access(Access::ReadWrite, false).unwrap();
        access.fill_at(64, pattern, 1 << 40, 16);
        assert_eq!([56, 80].map(|at| buffer.mapping.load(at)), [0, 0]);
        assert_eq!(access.check_at(64, pattern, 1 << 40, 16).corrupt, 0);
        assert_ne!(access.check_at(72, pattern, 1 << 40, 16).corrupt, 0);
        access.end().unwrap();
    }

    #[test]
    fn sync_is_asked_of_the_kernel_only_if_wanted() {
        let buffer = ordinary_memory(4096);
        buffer
            .cpu_access(Access::Read, false)
            .unwrap()
            .end()
            .unwrap();
        // A memfd is no DMABUF: the kernel's refusal shows that it was asked.
        let e = buffer.cpu_access(Access::Read, true).unwrap_err();
        assert!(e.to_string().contains("SYNC start"), "{e}");
    }
}
