// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The only place with `unsafe`: ioctls with their argument types, and shared memory that devices
//! change behind the compiler's back.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, ProtFlags};

use crate::uapi;

/// An ioctl whose answer is its return value; the kernel may also change the argument.
struct Call<'a, T> {
    opcode: Opcode,
    argument: &'a mut T,
}

// SAFETY: the pointer is that of an exclusively borrowed, initialised `T` which lives as long as
// the call; the output is the plain return value. That `T` is what `opcode` expects is up to the
// constructors below.
unsafe impl<T> Ioctl for Call<'_, T> {
    type Output = c_int;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.argument).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<c_int> {
        Ok(out)
    }
}

/// # Safety
/// `opcode` must expect a pointer to a `T` and must leave a valid `T` behind.
unsafe fn call<T>(fd: BorrowedFd<'_>, opcode: Opcode, argument: &mut T) -> io::Result<c_int> {
    // SAFETY: as promised by the caller.
    Ok(unsafe { rustix::ioctl::ioctl(fd, Call { opcode, argument }) }?)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    fd.as_raw_fd().unsigned_abs()
}

/// Takes over a descriptor that an ioctl has just made.
///
/// # Safety
/// `fd` must come from the kernel and belong to nobody else.
unsafe fn own(fd: c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::other(format!("kernel returned descriptor {fd}")));
    }
    // SAFETY: not -1, and ours by the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `IIO_BUFFER_GET_FD_IOCTL` on an IIO character device.
pub fn iio_buffer_fd(device: impl AsFd, index: c_int) -> io::Result<OwnedFd> {
    let mut argument = index;
    // SAFETY: the argument is an int, in: index, out: a new descriptor.
    unsafe {
        call(device.as_fd(), uapi::IIO_BUFFER_GET_FD, &mut argument)?;
        own(argument)
    }
}

/// Which framework a DMABUF is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importer {
    /// An IIO buffer.
    Iio,
    /// A FunctionFS endpoint.
    FunctionFs,
}

/// Attaches a DMABUF to an importer.
pub fn attach(importer: Importer, fd: impl AsFd, dmabuf: BorrowedFd<'_>) -> io::Result<()> {
    let opcode = match importer {
        Importer::Iio => uapi::IIO_DMABUF_ATTACH,
        Importer::FunctionFs => uapi::FFS_DMABUF_ATTACH,
    };
    // SAFETY: both take a pointer to an int.
    unsafe { call(fd.as_fd(), opcode, &mut dmabuf.as_raw_fd()) }.map(drop)
}

/// Detaches a DMABUF from an importer.
pub fn detach(importer: Importer, fd: impl AsFd, dmabuf: BorrowedFd<'_>) -> io::Result<()> {
    let opcode = match importer {
        Importer::Iio => uapi::IIO_DMABUF_DETACH,
        Importer::FunctionFs => uapi::FFS_DMABUF_DETACH,
    };
    // SAFETY: both take a pointer to an int.
    unsafe { call(fd.as_fd(), opcode, &mut dmabuf.as_raw_fd()) }.map(drop)
}

/// Queues the first `bytes` of an attached DMABUF. Waits up to 5 s for fences of earlier transfers
/// (in 6.12: industrialio-buffer.c and f_fs.c, `DMABUF_ENQUEUE_TIMEOUT_MS`).
pub fn enqueue(
    importer: Importer,
    fd: impl AsFd,
    dmabuf: BorrowedFd<'_>,
    bytes: u64,
) -> io::Result<()> {
    match importer {
        Importer::Iio => {
            let mut request = uapi::IioDmabuf {
                fd: number(dmabuf),
                flags: 0,
                bytes_used: bytes,
            };
            // SAFETY: takes a pointer to this structure.
            unsafe { call(fd.as_fd(), uapi::IIO_DMABUF_ENQUEUE, &mut request) }.map(drop)
        }
        Importer::FunctionFs => {
            let mut request = uapi::FfsDmabufTransfer {
                fd: dmabuf.as_raw_fd(),
                flags: 0,
                length: bytes,
            };
            // SAFETY: takes a pointer to this structure.
            unsafe { call(fd.as_fd(), uapi::FFS_DMABUF_TRANSFER, &mut request) }.map(drop)
        }
    }
}

/// `DMA_BUF_IOCTL_SYNC`.
pub fn dma_buf_sync(dmabuf: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    let mut request = uapi::DmaBufSync { flags };
    // SAFETY: takes a pointer to this structure.
    unsafe { call(dmabuf, uapi::DMA_BUF_SYNC, &mut request) }.map(drop)
}

/// `DMA_BUF_IOCTL_EXPORT_SYNC_FILE`: the fences that have not signalled yet, of readers and writers.
pub fn export_sync_file(dmabuf: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut request = uapi::DmaBufExportSyncFile {
        flags: (uapi::DMA_BUF_SYNC_READ | uapi::DMA_BUF_SYNC_WRITE) as u32,
        fd: -1,
    };
    // SAFETY: takes a pointer to this structure and stores a new descriptor in it.
    unsafe {
        call(dmabuf, uapi::DMA_BUF_EXPORT_SYNC_FILE, &mut request)?;
        own(request.fd)
    }
}

/// `SYNC_IOC_FILE_INFO` on a sync file of at most 4 fences.
pub fn sync_file_fences(file: impl AsFd) -> io::Result<Vec<uapi::SyncFenceInfo>> {
    let mut fences = [uapi::SyncFenceInfo::default(); 4];
    let mut request = uapi::SyncFileInfo {
        num_fences: 4,
        sync_fence_info: std::ptr::from_mut(&mut fences).expose_provenance() as u64,
        ..uapi::SyncFileInfo::default()
    };
    // SAFETY: takes a pointer to this structure, and fills no more fences than there is room for;
    // any bits make a `SyncFenceInfo`.
    unsafe { call(file.as_fd(), uapi::SYNC_FILE_INFO, &mut request) }?;
    let count = usize::try_from(request.num_fences).unwrap_or(usize::MAX);
    Ok(fences.into_iter().take(count).collect())
}

/// `DMA_HEAP_IOCTL_ALLOC` on a heap.
pub fn heap_alloc(heap: impl AsFd, bytes: u64) -> io::Result<OwnedFd> {
    let mut request = uapi::DmaHeapAllocation {
        len: bytes,
        fd: 0,
        fd_flags: (rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC).bits(),
        heap_flags: 0,
    };
    // SAFETY: takes a pointer to this structure and stores a new descriptor in it.
    unsafe {
        call(heap.as_fd(), uapi::DMA_HEAP_ALLOC, &mut request)?;
        own(request.fd.cast_signed())
    }
}

/// `UDMABUF_CREATE` over `bytes` of a sealed memfd, from byte `offset` on.
pub fn udmabuf_create(
    device: impl AsFd,
    memfd: BorrowedFd<'_>,
    offset: u64,
    bytes: u64,
) -> io::Result<OwnedFd> {
    let mut request = uapi::UdmabufCreate {
        memfd: number(memfd),
        flags: uapi::UDMABUF_FLAGS_CLOEXEC,
        offset,
        size: bytes,
    };
    // SAFETY: takes a pointer to this structure and returns a new descriptor.
    unsafe {
        let fd = call(device.as_fd(), uapi::UDMABUF_CREATE, &mut request)?;
        own(fd)
    }
}

/// Does `work` before all other threads, those of interrupt handlers included, but for the time
/// that it blocks.
pub fn before_others<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    schedule(libc::SCHED_FIFO, 99)?;
    let result = work();
    schedule(libc::SCHED_OTHER, 0)?;
    Ok(result)
}

fn schedule(policy: c_int, priority: c_int) -> io::Result<()> {
    // SAFETY: 0 is the calling thread; `struct sched_param` is an int, and read only. Not by way of
    // the function of this name: musl's only says that it does not exist.
    let result = unsafe {
        let param = &raw const priority;
        libc::syscall(libc::SYS_sched_setscheduler, 0, policy, param)
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A shared mapping of a part of a file. Devices may change what it shows at any time, so
/// there is never a reference into it: every access is one volatile load or store.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<c_void>,
    len: usize,
}

/// How a mapping is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Readable and writable; pages appear on first access.
    ReadWrite,
    /// Readable, with its pages already there. Nothing is read.
    Populated,
}

impl Mapping {
    /// Maps the first `len` bytes.
    pub fn new(fd: impl AsFd, len: usize, mode: Mode) -> io::Result<Self> {
        Mapping::part(fd, 0, len, mode)
    }

    /// Maps `len` bytes from byte `offset` on, a multiple of the page size.
    pub fn part(fd: impl AsFd, offset: u64, len: usize, mode: Mode) -> io::Result<Self> {
        let (prot, flags) = match mode {
            Mode::ReadWrite => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
            Mode::Populated => (ProtFlags::READ, MapFlags::SHARED | MapFlags::POPULATE),
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nobody.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, fd, offset) }?;
        let base = NonNull::new(base).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Mapping { base, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Virtual address of the first byte.
    pub fn address(&self) -> usize {
        self.base.as_ptr().addr()
    }

    /// Points at each page, for an engine that watches and knows the page tables: user space cannot
    /// see where a device's memory is. `dc cvau` moves nothing between the caches and memory, and
    /// does not make a page appear that is not there.
    pub fn point_out(&self, page_size: usize) {
        for offset in (0..self.len).step_by(page_size.max(1)) {
            let page = self.base.as_ptr().wrapping_byte_add(offset);
            #[cfg(target_arch = "aarch64")]
            // SAFETY: a cache operation on a mapped address; it changes no data. Linux lets user
            // space do it (SCTLR_EL1.UCI), and does it itself where a CPU's erratum forbids that.
            unsafe {
                std::arch::asm!("dc cvau, {}", in(reg) page, options(nostack, preserves_flags));
            }
            #[cfg(not(target_arch = "aarch64"))]
            let _ = page;
        }
    }

    /// The address of a naturally aligned `T` at byte `at`.
    ///
    /// # Panics
    /// If it is outside the mapping or misaligned: a bug of the caller.
    #[inline]
    fn place<T>(&self, at: usize) -> *mut T {
        let inside = at
            .checked_add(size_of::<T>())
            .is_some_and(|end| end <= self.len);
        assert!(
            inside && at.is_multiple_of(align_of::<T>()),
            "access of {} bytes at {at} of a mapping of {}",
            size_of::<T>(),
            self.len
        );
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.base.byte_add(at).cast().as_ptr() }
    }

    /// One 8-byte load.
    pub fn load(&self, at: usize) -> u64 {
        // SAFETY: `place` has checked range and alignment, the mapping is readable, and any bits
        // make a u64.
        u64::from_le(unsafe { self.place::<u64>(at).read_volatile() })
    }

    /// One 8-byte store. The mapping must be writable, else the process is killed.
    pub fn store(&self, at: usize, word: u64) {
        // SAFETY: `place` has checked range and alignment; nobody holds a reference into the
        // mapping.
        unsafe { self.place::<u64>(at).write_volatile(word.to_le()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; no reference into it was ever given out.
        // Failure would leave it mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memfd(len: u64) -> OwnedFd {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, len).unwrap();
        fd
    }

    #[test]
    fn two_mappings_show_the_same_bytes() {
        let fd = memfd(8192);
        let a = Mapping::new(&fd, 8192, Mode::ReadWrite).unwrap();
        let b = Mapping::new(&fd, 8192, Mode::Populated).unwrap();
        a.store(8184, 0x1122_3344_5566_7788);
        assert_eq!(b.load(8184), 0x1122_3344_5566_7788);
        assert_ne!(a.address(), b.address());
        a.point_out(4096);
        assert_eq!(b.load(8184), 0x1122_3344_5566_7788);
    }

    #[test]
    #[should_panic(expected = "at 4096 of a mapping of 4096")]
    fn nothing_beyond_the_end() {
        let _ = Mapping::new(memfd(4096), 4096, Mode::ReadWrite)
            .unwrap()
            .load(4096);
    }

    #[test]
    fn ioctls_report_what_the_kernel_says() {
        let fd = memfd(4096);
        // A memfd knows none of them.
        let e = dma_buf_sync(fd.as_fd(), 0).unwrap_err();
        assert_eq!(
            e.raw_os_error(),
            Some(rustix::io::Errno::NOTTY.raw_os_error())
        );
    }
}
