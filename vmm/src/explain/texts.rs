// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The texts.

use staleline_results::HazardKind;

use super::{Explanation, Kind};

/// The explanation of a kind.
pub fn of(kind: Kind) -> Explanation {
    match kind {
        Kind::Hazard(kind) => of_hazard(kind),
        Kind::KernelReport => KERNEL_REPORT,
        Kind::CorruptData => CORRUPT_DATA,
        Kind::StaleCopy => STALE_COPY,
        Kind::Failed => FAILED,
        Kind::Latent => LATENT,
        Kind::InfraError => INFRA_ERROR,
    }
}

fn of_hazard(kind: HazardKind) -> Explanation {
    match kind {
        HazardKind::MissingClean => MISSING_CLEAN,
        HazardKind::MissingInvalidate => MISSING_INVALIDATE,
        HazardKind::WritebackClobber => WRITEBACK_CLOBBER,
        HazardKind::DiscardedWrite => DISCARDED_WRITE,
        HazardKind::MissingBarrier => MISSING_BARRIER,
        HazardKind::MismatchedAlias => MISMATCHED_ALIAS,
        HazardKind::Ownership => OWNERSHIP,
        HazardKind::SignalledEarly => SIGNALLED_EARLY,
    }
}

const MISSING_CLEAN: Explanation = Explanation {
    summary: "a non-snooping device reads memory that still has newer data in the cache",
    mechanism: "
The CPU, or a device on a snooping port that allocates, wrote a line. The data is dirty in the
cache. A device that does not snoop reads DRAM and gets what was there before. If the line happens
to be evicted in time, the data is right, by luck: then the finding is latent. A clean that comes
when the device has been started is too late: it may have read by then.",
    cause: "
- The order is wrong: the transfer is queued first, and synced for the device afterwards.
- A driver writes to a streaming mapping after dma_map_*() and does not sync it again.
- User space fills a DMABUF without DMA_BUF_IOCTL_SYNC around its writes.
- A snooping device (a USB controller) fills a DMABUF that a non-snooping one (an FPGA DMA engine)
  then reads, and nobody acts between them, because no CPU takes part.
- The device tree says dma-coherent of a device whose port does not snoop.",
    fix: "
Clean the lines to the point of coherency (dc cvac or civac) after the last write and before the
transfer:
- kernel, own buffer: dma_map_sg() or dma_sync_sg_for_device(..., DMA_TO_DEVICE);
- user space: DMA_BUF_IOCTL_SYNC with SYNC_START | SYNC_WRITE before, SYNC_END | SYNC_WRITE after;
- importer of a DMABUF, where the kernel has these calls: dma_buf_begin_access() before the
  transfer, dma_buf_end_access() after it.",
    reproduce: Some("staleline run iio-playback-nosync --cache lazy"),
};

const MISSING_INVALIDATE: Explanation = Explanation {
    summary: "stale data in the cache is read instead of what a non-snooping device wrote",
    mechanism: "
A device that does not snoop wrote to DRAM. The cache still holds, or has speculatively fetched, the
line as it was before. The CPU, or a device on a snooping port, reads the old bytes. If the cache
does not hold the line, the data is right, by luck: then the finding is latent.",
    cause: "
- A driver reads a streaming mapping before dma_unmap_*() or dma_sync_*_for_cpu().
- It syncs before the transfer is done: a speculative fetch may bring the old data back.
- User space reads a DMABUF without DMA_BUF_IOCTL_SYNC around its reads.
- A DMABUF goes from a non-snooping device to a snooping one, and nobody acts between them.",
    fix: "
Invalidate the lines (dc ivac or civac) after the transfer is done and before the first read:
- kernel, own buffer: dma_unmap_sg() or dma_sync_sg_for_cpu(..., DMA_FROM_DEVICE);
- user space: DMA_BUF_IOCTL_SYNC with SYNC_START | SYNC_READ before, SYNC_END | SYNC_READ after,
  and only once the transfer is known to be done;
- importer of a DMABUF, where the kernel has these calls: dma_buf_end_access() when the transfer is
  done, before its dma_fence is signalled.",
    reproduce: Some("staleline run iio-capture-nosync --cache lazy"),
};

const WRITEBACK_CLOBBER: Explanation = Explanation {
    summary: "a dirty line may overwrite what a non-snooping device has just written",
    mechanism: "
A line is dirty in the cache when a device that does not snoop writes the same line in DRAM. Sooner
or later the cache evicts the line and writes its old contents over the new data. Invalidating after
the transfer helps only if the line has not been evicted before.",
    cause: "
- A fresh page was zeroed by the CPU and handed to a device without a map or sync. The zeros are
  what comes back.
- A driver writes to the buffer, or to something else in the same line, before or during the
  transfer.
- A buffer that shares its first or last line with other data.",
    fix: "
Make the lines clean before the transfer: dma_map_*() or dma_sync_*_for_device() with
DMA_FROM_DEVICE, after the last write. Let nothing else live in the lines of a DMA buffer: align it
to ARCH_DMA_MINALIGN; inside a structure, put it between __dma_from_device_group_begin() and
__dma_from_device_group_end().",
    reproduce: Some("staleline run iio-capture --exporter udmabuf --cache eager"),
};

const DISCARDED_WRITE: Explanation = Explanation {
    summary: "an invalidate throws away a write that had not reached DRAM",
    mechanism: "
A line is dirty in the cache, and dc ivac drops it without writing it back. The write is lost, for
everybody.",
    cause: "
- A buffer that shares a line with a variable that the CPU writes while the transfer runs.
- dma_sync_*_for_cpu() or dma_unmap_*() with DMA_FROM_DEVICE of memory that the CPU wrote
  meanwhile.
- SYNC_START for reading of a DMABUF that user space has just written without SYNC_END.",
    fix: "
Keep DMA buffers in lines of their own. Use the direction that is true, DMA_BIDIRECTIONAL if both
are. End a phase of CPU writes with its own clean (SYNC_END | SYNC_WRITE) before the next begins.",
    reproduce: None,
};

const MISSING_BARRIER: Explanation = Explanation {
    summary: "a device was started before cache maintenance had completed",
    mechanism: "
dc instructions only start an operation; a DSB waits for its end. If the store that starts the
device overtakes it, the device reads DRAM before the data is there. Ordinary stores too become
visible in any order unless a barrier orders them: a descriptor's words may come after the doorbell,
or after the word that hands it over. And a CPU's load of data may be done before its load of the flag
that says the data is there.",
    cause: "
- Hand-written maintenance without a DSB at its end.
- A patch that removes or weakens the barrier at the end of a maintenance routine. Only a DSB for
  loads and stores that reaches bus masters (sy, osh) completes it: not ishst, not ish. The barrier in
  writel() is a DMB for stores, which does not wait for maintenance.
- writel_relaxed() where writel() was meant.
- dma_wmb() missing before the store that sets a descriptor's ownership bit.
- dma_rmb() missing between a flag that a device wrote and the data it stands for.",
    fix: "
End the maintenance with dsb sy before the store that starts the device. The kernel's own
dcache_clean_poc() and dcache_inval_poc() do. Start a device with writel(), or order the stores with
wmb() before a relaxed one; put dma_wmb() before the store that hands a descriptor over, dma_rmb()
behind the load that takes one back.",
    reproduce: None,
};

const MISMATCHED_ALIAS: Explanation = Explanation {
    summary: "cacheable and non-cacheable views of the same memory disagree",
    mechanism: "
The same memory is mapped as Normal cacheable and as Normal non-cacheable (dma_alloc_coherent() of a
device that does not snoop, ioremap_wc(), pgprot_writecombine()). An access through the second view
goes to DRAM past a dirty line, and the later eviction of that line overwrites it. And what is stored
through the second view is missed by whoever reads through the caches, a CPU or a device that snoops:
an older copy may be there, or may be fetched at any time through the kernel's linear map.",
    cause: "
- A device snoops and the device tree does not say dma-coherent: the kernel gives its driver
  non-cacheable memory, and the device looks for it in the caches.
- Memory was zeroed or written through the linear map and not cleaned before it was remapped.
- User space has a cacheable mapping of a buffer that the kernel uses uncached.",
    fix: "
Clean and invalidate (dc civac) before the first access through the new view, and keep to one view
while it is in use. If a snooping device reads it, add dma-coherent to the device's node.",
    reproduce: None,
};

const OWNERSHIP: Explanation = Explanation {
    summary: "the CPU or a snooping device touches memory that a non-snooping one is working on",
    mechanism: "
From the start of a transfer to its end the device owns the buffer. A read by the CPU in between may
fetch a half-written line that stays in the cache; a write may be lost or may overwrite the device's
data. What a snooping device does in between goes through the cache just the same.",
    cause: "
- One device's transfer is queued without waiting for the fence of another's.
- User space reads a DMABUF without waiting for its dma_fence, for poll() or for the dequeue.
- A driver looks at the buffer before the completion interrupt.
- The wrong buffer of a rotation is used.",
    fix: "
Wait for the end of the transfer: dma_fence_wait(), DMA_BUF_IOCTL_EXPORT_SYNC_FILE and poll(), or the
driver's completion. Then sync for the CPU, then touch.",
    reproduce: None,
};

const SIGNALLED_EARLY: Explanation = Explanation {
    summary: "what a device wrote is visible only after the fence of its transfer has signalled",
    mechanism: "
A DMA fence says that a transfer is over and that whoever waits for it may use the data. Here the fence
signalled first, and dma_buf_end_access() came afterwards and still had lines to maintain that the device
had written. In between, another CPU, or whoever is woken quickly, reads stale lines. On one CPU the
interrupt handler mostly wins, and all data is right: the finding does not depend on who wins. Lines that
needed nothing do not count. A kernel without dma_buf_begin_access() and dma_buf_end_access(), or whose
System.map is not known, is not judged by this rule.",
    cause: "
- dma_fence_signal() stands before dma_buf_end_access() in the completion handler.
- The access is ended in a work item or another deferred cleanup, the fence signalled in the interrupt.
- A fence is signalled when the transfer is queued, or by somebody else than its completion.",
    fix: "
Call dma_buf_end_access() in the completion handler, and dma_fence_signal() after it, with the error of
the former in fence->error. The call may be made in atomic context for just that.",
    reproduce: None,
};

const CORRUPT_DATA: Explanation = Explanation {
    summary: "an end of the data path received other bytes than were sent",
    mechanism: "
Every frame carries a pattern from which each end can tell, byte by byte, what it must receive. An
end compared what it got and found a difference. That is not judged from the cache's rules: it is
what an application would have seen.",
    cause: "
- One of the hazards of the same run, which are told first: their wrong bytes are these.
- Without a hazard in the run, data went wrong in another way: a frame was taken twice, or late, or
  from the wrong buffer, or was not moved at all.",
    fix: "
Repair the hazards first, those that manifested before those that are latent. If there are none,
look at the order of queue and dequeue in the program and at the driver's lengths and offsets.",
    reproduce: Some("staleline run iio-capture-nosync --cache lazy"),
};

const STALE_COPY: Explanation = Explanation {
    summary: "the kernel copied a whole page, and with it bytes that nobody has asked for",
    mechanism: "
A device that does not snoop wrote memory that nobody synced for the CPU. Later the kernel copied
the page as a whole (migration, compaction, copy on write), from a cache that may still hold the
old bytes. If nobody reads these bytes of the copy, nothing has gone wrong: it is told, and does not
fail the run.",
    cause: "
- A buffer was unmapped with DMA_ATTR_SKIP_CPU_SYNC, or only in part synced, because the driver does
  not want the rest; its page was freed, and its next owner wrote to some of it only.",
    fix: "
Nothing has to be done as long as nobody reads the rest. To be rid of it, unmap with a sync for the
CPU before the page is freed.",
    reproduce: None,
};

const KERNEL_REPORT: Explanation = Explanation {
    summary: "the guest's kernel reports an error of its own",
    mechanism: "
The kernel under test printed an oops, a BUG or a WARN, or one of its checkers found something: a hung
task, a CPU that is stuck, KASAN or UBSAN, lockdep and might_sleep(), RCU, the checks of the DMA API.
Such a run fails, whatever became of its data. An oops stops the guest at once (oops=panic): what the
run would have shown after it, nobody knows.",
    cause: "
- A pointer that is used before it is set, or after what it points to is gone: a mapping of another
  device, a DMABUF that was detached.
- A lock is taken, or memory is allocated, where the kernel must not sleep: in an interrupt, or between
  dma_fence_begin_signalling() and dma_fence_end_signalling().
- Memory is unmapped with another size, direction or function than it was mapped with.",
    fix: "
Follow the call chain, innermost function first; result.json has the whole text. lockdep, the checks of
atomic context and DMABUF_DEBUG are in kernels built with --config lockdep.
A report that is known and harmless can be allowed by a part of its headline:
- in the scenario: [guest] allow-reports = [\"drivers/foo/bar.c\"];
- on the command line: --set 'guest.allow-reports=[\"drivers/foo/bar.c\"]'.
It is then told as a warning. Other kernels than ours may need that; ours are silent.",
    reproduce: None,
};

const FAILED: Explanation = Explanation {
    summary: "the program, or a test in the guest, says itself that it has failed",
    mechanism: "
The program under test ended with an exit code other than 0, or by a signal, or one of the tests in the
guest failed. No cache operation was found to be missing for it: if one had been, that would be told
first. The run fails, with exit code 1.",
    cause: "
- The program has checked something of its own, and found it wrong.
- It ended early, because something that it needs is not in the guest: a file, a device, a system call.
- A signal ended it: SIGSEGV by a mistake of its own, SIGBUS by a mapping that is shorter than it thinks.",
    fix: "
Read what it wrote to standard error, which is printed as it came, and is in console.log of the run's
directory. `--file` and `--root` give it files, `--gadget` and `--iio` devices; `staleline shell` with the
same options lets you try by hand.",
    reproduce: None,
};

const LATENT: Explanation = Explanation {
    summary: "said of a finding: an operation was due and missing, and by luck no wrong byte was read",
    mechanism: "
The model knows of each line whether what a reader gets is right by the rules, or only because the cache
happened to write it back, or drop it, in time. The latter is latent: another replacement, another cache
or a little more work on the CPU, and the same code reads stale bytes. What is not latent is manifested:
wrong bytes were read.",
    cause: "
- The same mistakes as for findings that manifested.
- The cache was small, or the time long: the line had left it when the device read.",
    fix: "
Treat it as any other finding: it fails the run with exit code 1, as an operation is missing. To see it
manifest, try other policies and seeds: --cache lazy keeps lines as long as it can, --cache eager drops
them at once, --cache random with --seed N does either.",
    reproduce: Some("staleline run iio-to-usb --cache eager"),
};

const INFRA_ERROR: Explanation = Explanation {
    summary: "said of a run: it did not come to check what it was to check, so it says nothing",
    mechanism: "
The guest did not boot, did not end within its time, or could not set up what the scenario needs; or the
emulator, the disk or the network failed. If there is evidence of incoherency all the same, the run
fails, and is no infrastructure error. Exit code 3.",
    cause: "
- The kernel does not suit the board, or lacks an option: `staleline kernel list` names those that are
  known to.
- The time limit is too short for what the guest does on this machine.
- A bound of the model was reached (`saturated`): from there on it could not judge all.
- A full disk, a missing program, no network where something has to be fetched.",
    fix: "
The reason that is printed names the step. `staleline doctor` says what is missing on this machine,
--timeout gives the guest more time, and console.log in the run's directory has all that the guest said.
Do not count such runs as passed or failed: run them again. `staleline matrix` does so once, and says
so.",
    reproduce: None,
};
