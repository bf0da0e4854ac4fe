// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Numbers and argument layouts of the ioctls, as in Linux 6.12 include/uapi/linux.

use std::ffi::c_int;

use rustix::ioctl::{Opcode, opcode};

/// iio/buffer.h: file descriptor of buffer *n* of an IIO device.
pub const IIO_BUFFER_GET_FD: Opcode = opcode::read_write::<c_int>(b'i', 0x91);
/// iio/buffer.h: attach a DMABUF to a buffer.
pub const IIO_DMABUF_ATTACH: Opcode = opcode::write::<c_int>(b'i', 0x92);
/// iio/buffer.h: undo an attach.
pub const IIO_DMABUF_DETACH: Opcode = opcode::write::<c_int>(b'i', 0x93);
/// iio/buffer.h: queue an attached DMABUF.
pub const IIO_DMABUF_ENQUEUE: Opcode = opcode::write::<IioDmabuf>(b'i', 0x94);
/// dma-buf.h: start or end of a CPU access.
pub const DMA_BUF_SYNC: Opcode = opcode::write::<DmaBufSync>(b'b', 0);
/// dma-buf.h: the fences of a DMABUF as a sync file.
pub const DMA_BUF_EXPORT_SYNC_FILE: Opcode = opcode::read_write::<DmaBufExportSyncFile>(b'b', 2);
/// sync_file.h: what is known of a sync file's fences.
pub const SYNC_FILE_INFO: Opcode = opcode::read_write::<SyncFileInfo>(b'>', 4);
/// dma-heap.h: allocate.
pub const DMA_HEAP_ALLOC: Opcode = opcode::read_write::<DmaHeapAllocation>(b'H', 0);
/// udmabuf.h: make a DMABUF of a memfd.
pub const UDMABUF_CREATE: Opcode = opcode::write::<UdmabufCreate>(b'u', 0x42);
/// usb/functionfs.h: attach a DMABUF to an endpoint.
pub const FFS_DMABUF_ATTACH: Opcode = opcode::write::<c_int>(b'g', 131);
/// usb/functionfs.h: undo an attach.
pub const FFS_DMABUF_DETACH: Opcode = opcode::write::<c_int>(b'g', 132);
/// usb/functionfs.h: queue an attached DMABUF.
pub const FFS_DMABUF_TRANSFER: Opcode = opcode::write::<FfsDmabufTransfer>(b'g', 133);

/// iio/buffer.h `struct iio_dmabuf`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct IioDmabuf {
    /// DMABUF.
    pub fd: u32,
    /// No flag is used here.
    pub flags: u32,
    /// Bytes to transfer.
    pub bytes_used: u64,
}

/// dma-buf.h `struct dma_buf_sync`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct DmaBufSync {
    /// Access (read 1, write 2), plus [`DMA_BUF_SYNC_END`] at the end.
    pub flags: u64,
}

/// dma-buf.h: the CPU reads.
pub const DMA_BUF_SYNC_READ: u64 = 1;
/// dma-buf.h: the CPU writes.
pub const DMA_BUF_SYNC_WRITE: u64 = 2;
/// dma-buf.h: the access is over; without it, it starts.
pub const DMA_BUF_SYNC_END: u64 = 4;

/// dma-buf.h `struct dma_buf_export_sync_file`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct DmaBufExportSyncFile {
    /// Fences that somebody must wait for who wants to read (1) or write (2).
    pub flags: u32,
    /// Out: the sync file.
    pub fd: c_int,
}

/// sync_file.h `struct sync_fence_info`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SyncFenceInfo {
    /// Name of the timeline.
    pub obj_name: [u8; 32],
    /// Name of the driver.
    pub driver_name: [u8; 32],
    /// 0: not signalled; 1: signalled; negative: signalled with this error.
    pub status: i32,
    /// None defined.
    pub flags: u32,
    /// When it signalled.
    pub timestamp_ns: u64,
}

/// sync_file.h `struct sync_file_info`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SyncFileInfo {
    /// Out: its name.
    pub name: [u8; 32],
    /// Out: of all fences together, as in [`SyncFenceInfo`].
    pub status: i32,
    /// None defined.
    pub flags: u32,
    /// In: room for so many; out: so many there are.
    pub num_fences: u32,
    /// Must be 0.
    pub pad: u32,
    /// Address of an array of [`SyncFenceInfo`].
    pub sync_fence_info: u64,
}

/// dma-heap.h `struct dma_heap_allocation_data`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct DmaHeapAllocation {
    /// Bytes.
    pub len: u64,
    /// Out: the DMABUF.
    pub fd: u32,
    /// Open flags of `fd`.
    pub fd_flags: u32,
    /// None defined.
    pub heap_flags: u64,
}

/// udmabuf.h `struct udmabuf_create`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct UdmabufCreate {
    /// Backing memfd, sealed against shrinking.
    pub memfd: u32,
    /// [`UDMABUF_FLAGS_CLOEXEC`].
    pub flags: u32,
    /// First byte in the memfd.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// udmabuf.h.
pub const UDMABUF_FLAGS_CLOEXEC: u32 = 1;

/// usb/functionfs.h `struct usb_ffs_dmabuf_transfer_req`, which is packed.
#[repr(C, packed)]
#[derive(Debug, Clone, Copy)]
pub struct FfsDmabufTransfer {
    /// DMABUF.
    pub fd: c_int,
    /// None defined.
    pub flags: u32,
    /// Bytes to transfer.
    pub length: u64,
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    // Printed by a C program that includes the headers of Linux 6.12.117.
    #[test]
    fn ioctl_numbers_are_the_kernels() {
        assert_eq!(IIO_BUFFER_GET_FD, 0xc004_6991);
        assert_eq!(IIO_DMABUF_ATTACH, 0x4004_6992);
        assert_eq!(IIO_DMABUF_DETACH, 0x4004_6993);
        assert_eq!(IIO_DMABUF_ENQUEUE, 0x4010_6994);
        assert_eq!(DMA_BUF_SYNC, 0x4008_6200);
        assert_eq!(DMA_BUF_EXPORT_SYNC_FILE, 0xc008_6202);
        assert_eq!(SYNC_FILE_INFO, 0xc038_3e04);
        assert_eq!(DMA_HEAP_ALLOC, 0xc018_4800);
        assert_eq!(UDMABUF_CREATE, 0x4018_7542);
        assert_eq!(FFS_DMABUF_ATTACH, 0x4004_6783);
        assert_eq!(FFS_DMABUF_DETACH, 0x4004_6784);
        assert_eq!(FFS_DMABUF_TRANSFER, 0x4010_6785);
    }

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<IioDmabuf>(), 16);
        assert_eq!(offset_of!(IioDmabuf, bytes_used), 8);
        assert_eq!(size_of::<DmaHeapAllocation>(), 24);
        assert_eq!(offset_of!(DmaHeapAllocation, fd), 8);
        assert_eq!(offset_of!(DmaHeapAllocation, heap_flags), 16);
        assert_eq!(size_of::<SyncFenceInfo>(), 80);
        assert_eq!(offset_of!(SyncFenceInfo, status), 64);
        assert_eq!(size_of::<SyncFileInfo>(), 56);
        assert_eq!(offset_of!(SyncFileInfo, sync_fence_info), 48);
        assert_eq!(size_of::<UdmabufCreate>(), 24);
        assert_eq!(offset_of!(UdmabufCreate, offset), 8);
        assert_eq!(size_of::<FfsDmabufTransfer>(), 16);
        assert_eq!(align_of::<FfsDmabufTransfer>(), 1);
        assert_eq!(offset_of!(FfsDmabufTransfer, length), 8);
    }
}
