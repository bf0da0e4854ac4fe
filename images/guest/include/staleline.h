/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * staleline.h - DMABUFs, SYNC, fences, IIO buffers and FunctionFS endpoints for small programs
 *
 * One header, nothing to link. It is for programs that reproduce a bug or exercise a driver, on
 * real hardware as under `staleline exec`. It asks the kernel for what its name says and for
 * nothing else: no function here does a SYNC, waits for a fence or touches a buffer unless that
 * is its purpose.
 *
 * A capture of one frame, as the dma-buf interface wants it (errors left out):
 *
 *	stl_buf_alloc(&buf, STL_SYSTEM, 4096);
 *	stl_iio_open(&adc, STL_IN);
 *	stl_iio_attach(&adc, &buf);
 *	stl_iio_enqueue(&adc, &buf, 4096);
 *	stl_iio_enable(&adc);
 *	stl_wait(&buf, STL_READ, 1000);		the device is done
 *	stl_sync_start(&buf, STL_READ);		the CPU's caches forget what they had
 *	... read buf.map ...
 *	stl_sync_end(&buf, STL_READ);
 *
 * Functions return 0, or what their comment says, on success, and a negative errno on failure;
 * errno itself is not kept. What is below "For short programs" ends the program instead.
 *
 * Needs GNU C11 (gcc or clang; -std=gnu11 or later), or -std=c11 with this header included
 * first or _GNU_SOURCE defined. Numbers and layouts are those of Linux 6.12, told here because
 * the kernel headers that come with a C library are often older than these interfaces.
 */
#ifndef STALELINE_H
#define STALELINE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * Kernel interfaces
 */

/* include/uapi/linux/dma-buf.h: struct dma_buf_sync */
struct stl_dma_buf_sync {
	uint64_t flags;			/* enum stl_access, with STL_SYNC_END at the end */
};

/* include/uapi/linux/dma-buf.h: struct dma_buf_export_sync_file */
struct stl_dma_buf_export_sync_file {
	uint32_t flags;			/* enum stl_access */
	int32_t fd;			/* out */
};

/* include/uapi/linux/sync_file.h: struct sync_file_info */
struct stl_sync_file_info {
	char name[32];			/* out */
	int32_t status;			/* out: see stl_fence_status() */
	uint32_t flags;
	uint32_t num_fences;		/* in: 0 asks for the status of all together */
	uint32_t pad;
	uint64_t sync_fence_info;
};

/* include/uapi/linux/dma-heap.h: struct dma_heap_allocation_data */
struct stl_dma_heap_allocation_data {
	uint64_t len;
	uint32_t fd;			/* out */
	uint32_t fd_flags;
	uint64_t heap_flags;
};

/* include/uapi/linux/udmabuf.h: struct udmabuf_create */
struct stl_udmabuf_create {
	uint32_t memfd;
	uint32_t flags;
	uint64_t offset;
	uint64_t size;
};

/* include/uapi/linux/iio/buffer.h: struct iio_dmabuf */
struct stl_iio_dmabuf {
	uint32_t fd;
	uint32_t flags;
	uint64_t bytes_used;
};

/* include/uapi/linux/usb/functionfs.h: struct usb_ffs_dmabuf_transfer_req */
struct stl_ffs_dmabuf_transfer_req {
	int32_t fd;
	uint32_t flags;
	uint64_t length;
} __attribute__((__packed__));

#define STL_IOC_SYNC			_IOW('b', 0, struct stl_dma_buf_sync)
#define STL_IOC_EXPORT_SYNC_FILE	_IOWR('b', 2, struct stl_dma_buf_export_sync_file)
#define STL_IOC_SYNC_FILE_INFO		_IOWR('>', 4, struct stl_sync_file_info)
#define STL_IOC_HEAP_ALLOC		_IOWR('H', 0, struct stl_dma_heap_allocation_data)
#define STL_IOC_UDMABUF_CREATE		_IOW('u', 0x42, struct stl_udmabuf_create)
#define STL_IOC_IIO_BUFFER_GET_FD	_IOWR('i', 0x91, int)
#define STL_IOC_IIO_ATTACH		_IOW('i', 0x92, int)
#define STL_IOC_IIO_DETACH		_IOW('i', 0x93, int)
#define STL_IOC_IIO_ENQUEUE		_IOW('i', 0x94, struct stl_iio_dmabuf)
#define STL_IOC_FFS_ATTACH		_IOW('g', 131, int)
#define STL_IOC_FFS_DETACH		_IOW('g', 132, int)
#define STL_IOC_FFS_TRANSFER		_IOW('g', 133, struct stl_ffs_dmabuf_transfer_req)

/* include/uapi/linux/dma-buf.h: DMA_BUF_SYNC_END */
#define STL_SYNC_END			4
/* include/uapi/linux/udmabuf.h: UDMABUF_FLAGS_CLOEXEC */
#define STL_UDMABUF_CLOEXEC		1
/* include/uapi/linux/memfd.h: MFD_CLOEXEC | MFD_ALLOW_SEALING */
#define STL_MFD_FLAGS			3
/* include/uapi/linux/fcntl.h: F_ADD_SEALS, F_SEAL_SHRINK */
#define STL_F_ADD_SEALS			1033
#define STL_F_SEAL_SHRINK		2

/*
 * Small helpers, not for use elsewhere
 */

/* Calls again where a signal came between. The documentation of SYNC asks for EAGAIN, too. */
static inline int stl_ioctl_(int fd, unsigned long request, void *argument)
{
	int ret;

	do {
		ret = ioctl(fd, request, argument);
	} while (ret < 0 && (errno == EINTR || errno == EAGAIN));
	return ret < 0 ? -errno : ret;
}

static inline int stl_open_(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A text attribute of sysfs, without the newline at its end. */
static inline int stl_read_attribute_(const char *path, char *text, size_t size)
{
	ssize_t n;
	int fd;

	fd = stl_open_(path, O_RDONLY);
	if (fd < 0)
		return fd;
	n = read(fd, text, size - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return (int)n;
	if (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	return 0;
}

static inline int stl_write_attribute_(const char *path, const char *text)
{
	ssize_t n;
	int fd;

	fd = stl_open_(path, O_WRONLY);
	if (fd < 0)
		return fd;
	n = write(fd, text, strlen(text));
	if (n < 0)
		n = -errno;
	close(fd);
	return n < 0 ? (int)n : 0;
}

static inline int stl_poll_(int fd, short events, int timeout_ms)
{
	struct pollfd pfd = { fd, events, 0 };
	int n;

	do {
		n = poll(&pfd, 1, timeout_ms);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ETIME;
	return pfd.revents & (POLLERR | POLLNVAL) ? -EBADF : 0;
}

/*
 * Buffers
 */

/**
 * enum stl_exporter - who allocates a DMABUF
 * @STL_SYSTEM:		/dev/dma_heap/system: pages from anywhere, cached mappings
 * @STL_CMA:		the heap of the default CMA area, whatever its name: contiguous
 * @STL_UDMABUF:	/dev/udmabuf, of a memfd
 * @STL_IIO:		/dev/dma_heap/iio, of kernels in which IIO exports
 */
enum stl_exporter {
	STL_SYSTEM,
	STL_CMA,
	STL_UDMABUF,
	STL_IIO,
};

/**
 * stl_exporter_named() - the exporter of a name, as an option of a program may give it
 * @name:	"system", "cma", "udmabuf" or "iio"
 *
 * Return: an enum stl_exporter, or -EINVAL.
 */
static inline int stl_exporter_named(const char *name)
{
	if (!strcmp(name, "system"))
		return STL_SYSTEM;
	if (!strcmp(name, "cma"))
		return STL_CMA;
	if (!strcmp(name, "udmabuf"))
		return STL_UDMABUF;
	if (!strcmp(name, "iio"))
		return STL_IIO;
	return -EINVAL;
}

/**
 * enum stl_access - what is done to a buffer, or is about to be
 * @STL_READ:	it is read
 * @STL_WRITE:	it is written
 * @STL_RW:	both
 *
 * DMA_BUF_SYNC_READ and DMA_BUF_SYNC_WRITE of include/uapi/linux/dma-buf.h.
 */
enum stl_access {
	STL_READ = 1,
	STL_WRITE = 2,
	STL_RW = 3,
};

/**
 * struct stl_buf - a DMABUF and its mapping
 * @fd:		the DMABUF
 * @size:	bytes, a multiple of the page size if it is from stl_buf_alloc()
 * @map:	where it is mapped, readable and writable
 */
struct stl_buf {
	int fd;
	size_t size;
	void *map;
};

static inline int stl_heap_alloc_(const char *path, size_t size)
{
	struct stl_dma_heap_allocation_data data;
	int heap, ret;

	heap = stl_open_(path, O_RDWR);
	if (heap < 0)
		return heap;
	memset(&data, 0, sizeof(data));
	data.len = size;
	data.fd_flags = O_RDWR | O_CLOEXEC;
	ret = stl_ioctl_(heap, STL_IOC_HEAP_ALLOC, &data);
	close(heap);
	return ret < 0 ? ret : (int)data.fd;
}

/*
 * The default CMA heap has the name of its area, another one on each board: "reserved", or the
 * node of the device tree. In 6.12 there is none besides it and "system".
 */
static inline int stl_cma_alloc_(size_t size)
{
	char path[sizeof("/dev/dma_heap/") + sizeof(((struct dirent *)0)->d_name)];
	char name[sizeof(((struct dirent *)0)->d_name)] = "";
	struct dirent *entry;
	DIR *dir;

	dir = opendir("/dev/dma_heap");
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !strcmp(entry->d_name, "system") ||
		    !strcmp(entry->d_name, "iio"))
			continue;
		if (!name[0] || strcmp(entry->d_name, name) < 0)
			memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
	}
	closedir(dir);
	if (!name[0])
		return -ENOENT;
	snprintf(path, sizeof(path), "/dev/dma_heap/%s", name);
	return stl_heap_alloc_(path, size);
}

static inline int stl_udmabuf_alloc_(size_t size)
{
	struct stl_udmabuf_create create;
	int memfd, device, ret;

	memfd = (int)syscall(SYS_memfd_create, "staleline", STL_MFD_FLAGS);
	if (memfd < 0)
		return -errno;
	/* The driver insists on the seal. */
	if (ftruncate(memfd, (off_t)size) || fcntl(memfd, STL_F_ADD_SEALS, STL_F_SEAL_SHRINK)) {
		ret = -errno;
		close(memfd);
		return ret;
	}
	device = stl_open_("/dev/udmabuf", O_RDWR);
	ret = device;
	if (device >= 0) {
		memset(&create, 0, sizeof(create));
		create.memfd = (uint32_t)memfd;
		create.flags = STL_UDMABUF_CLOEXEC;
		create.size = size;
		ret = stl_ioctl_(device, STL_IOC_UDMABUF_CREATE, &create);
		close(device);
	}
	/* The DMABUF keeps its pages. */
	close(memfd);
	return ret;
}

/**
 * stl_buf_import() - map a DMABUF that comes from elsewhere
 * @buf:	filled in; owns @fd from then on
 * @fd:		the DMABUF
 * @size:	bytes to map
 *
 * On failure @fd remains the caller's.
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_buf_import(struct stl_buf *buf, int fd, size_t size)
{
	void *map;

	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	buf->fd = fd;
	buf->size = size;
	buf->map = map;
	return 0;
}

/**
 * stl_buf_alloc() - allocate a DMABUF and map it
 * @buf:	filled in
 * @exporter:	who allocates it
 * @size:	bytes, rounded up to whole pages
 *
 * The mapping is not touched. On failure @buf holds nothing, and stl_buf_free() does nothing.
 *
 * Return: 0 or a negative errno; -ENOENT: the kernel has no such exporter.
 */
static inline int stl_buf_alloc(struct stl_buf *buf, enum stl_exporter exporter, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd, ret;

	buf->fd = -1;
	buf->size = 0;
	buf->map = NULL;
	if (!size || size > SIZE_MAX - page)
		return -EINVAL;
	size = (size + page - 1) / page * page;
	switch (exporter) {
	case STL_SYSTEM:
		fd = stl_heap_alloc_("/dev/dma_heap/system", size);
		break;
	case STL_CMA:
		fd = stl_cma_alloc_(size);
		break;
	case STL_IIO:
		fd = stl_heap_alloc_("/dev/dma_heap/iio", size);
		break;
	case STL_UDMABUF:
		fd = stl_udmabuf_alloc_(size);
		break;
	default:
		return -EINVAL;
	}
	if (fd < 0)
		return fd;
	ret = stl_buf_import(buf, fd, size);
	if (ret)
		close(fd);
	return ret;
}

/**
 * stl_buf_free() - unmap a DMABUF and close it
 * @buf:	from stl_buf_alloc() or stl_buf_import()
 *
 * The memory is freed when nothing else uses it: an attachment does.
 */
static inline void stl_buf_free(struct stl_buf *buf)
{
	if (buf->map)
		munmap(buf->map, buf->size);
	if (buf->fd >= 0)
		close(buf->fd);
	buf->fd = -1;
	buf->size = 0;
	buf->map = NULL;
}

/*
 * SYNC and fences
 */

/**
 * stl_sync_start() - announce that the CPU is about to access the mapping
 * @buf:	the buffer
 * @access:	what it will do
 *
 * DMA_BUF_IOCTL_SYNC. Wait for the device first, with stl_wait() or a fence: the ioctl itself
 * waits too, but in 6.12 only after it has invalidated the caches (dma_buf_begin_cpu_access()
 * in drivers/dma-buf/dma-buf.c), and what they then fetch speculatively before the device is
 * done stays.
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_sync_start(const struct stl_buf *buf, enum stl_access access)
{
	struct stl_dma_buf_sync sync = { access };

	return stl_ioctl_(buf->fd, STL_IOC_SYNC, &sync);
}

/**
 * stl_sync_end() - announce that the CPU has done what stl_sync_start() announced
 * @buf:	the buffer
 * @access:	the same as then
 *
 * Before the buffer is queued for a device: only then what the CPU wrote is sure to be in
 * memory.
 *
 * Return: 0 or a negative errno; -EINVAL: udmabuf insists on a stl_sync_start() before.
 */
static inline int stl_sync_end(const struct stl_buf *buf, enum stl_access access)
{
	struct stl_dma_buf_sync sync = { access | (uint64_t)STL_SYNC_END };

	return stl_ioctl_(buf->fd, STL_IOC_SYNC, &sync);
}

/**
 * stl_wait() - wait until devices are done with a buffer
 * @buf:	the buffer
 * @access:	what is to be done then: a reader waits for devices that write, a writer for all
 * @timeout_ms:	how long, in milliseconds; -1 for ever
 *
 * Says nothing about how the transfers ended: see stl_fence_wait().
 *
 * Return: 0 or a negative errno; -ETIME: not done yet.
 */
static inline int stl_wait(const struct stl_buf *buf, enum stl_access access, int timeout_ms)
{
	return stl_poll_(buf->fd, access & STL_WRITE ? POLLOUT : POLLIN, timeout_ms);
}

/**
 * stl_fence_get() - get the fence of the transfers that are queued for a buffer
 * @buf:	the buffer
 * @access:	what is to be done when it has signalled, as for stl_wait()
 *
 * DMA_BUF_IOCTL_EXPORT_SYNC_FILE. Ask right after the transfer
 * was queued: of one that is over by then, the kernel only says that it is, not how it ended.
 *
 * Close it before stl_ffs_detach(): FunctionFS in 6.12 has the fence's lock in what a detach
 * frees (struct ffs_dmabuf_priv in drivers/usb/gadget/function/f_fs.c).
 *
 * Return: a file descriptor, to be closed, or a negative errno.
 */
static inline int stl_fence_get(const struct stl_buf *buf, enum stl_access access)
{
	struct stl_dma_buf_export_sync_file export_ = { access, -1 };
	int ret;

	ret = stl_ioctl_(buf->fd, STL_IOC_EXPORT_SYNC_FILE, &export_);
	return ret < 0 ? ret : export_.fd;
}

/**
 * stl_fence_status() - look at a fence
 * @fence:	from stl_fence_get()
 *
 * Return: 0 if it has not signalled yet, 1 if it has, or the error with which it has.
 */
static inline int stl_fence_status(int fence)
{
	struct stl_sync_file_info info;
	int ret;

	memset(&info, 0, sizeof(info));
	ret = stl_ioctl_(fence, STL_IOC_SYNC_FILE_INFO, &info);
	return ret < 0 ? ret : info.status;
}

/**
 * stl_fence_wait() - wait until a fence has signalled
 * @fence:	from stl_fence_get()
 * @timeout_ms:	how long, in milliseconds; -1 for ever
 *
 * Return: 0 if the transfer has been carried out, else the error of the transfer; -ETIME: it
 * has not ended yet.
 */
static inline int stl_fence_wait(int fence, int timeout_ms)
{
	int ret;

	ret = stl_poll_(fence, POLLIN, timeout_ms);
	if (ret)
		return ret;
	ret = stl_fence_status(fence);
	return ret < 0 ? ret : 0;
}

/*
 * IIO (Documentation/iio/iio_dmabuf_api.rst, Documentation/ABI/testing/sysfs-bus-iio)
 */

/**
 * enum stl_direction - which way samples go
 * @STL_IN:	from a converter to memory
 * @STL_OUT:	from memory to a converter
 */
enum stl_direction {
	STL_IN,
	STL_OUT,
};

/* Devices, and buffers of each, that are looked at. */
#define STL_IIO_DEVICES			32
#define STL_IIO_BUFFERS			8
/* How long to wait, in milliseconds, for a driver that is still probing. */
#define STL_PROBE_MS			5000

/**
 * struct stl_iio - a buffer of an IIO device
 * @fd:		the buffer, for ioctls; -1 before stl_iio_open()
 * @device:	number of the device: /dev/iio:deviceN
 * @index:	number of the buffer
 */
struct stl_iio {
	int fd;
	int device;
	int index;
};

static inline void stl_iio_path_(const struct stl_iio *iio, const char *attribute,
				 char path[384])
{
	snprintf(path, 384, "/sys/bus/iio/devices/iio:device%d/buffer%d/%.255s", iio->device,
		 iio->index, attribute);
}

/**
 * stl_iio_find() - find the first buffer of a direction
 * @iio:	filled in
 * @direction:	which way
 *
 * Waits up to STL_PROBE_MS for a driver to appear.
 *
 * Return: 0 or a negative errno; -ENODEV: there is none.
 */
static inline int stl_iio_find(struct stl_iio *iio, enum stl_direction direction)
{
	const struct timespec step = { 0, 20 * 1000 * 1000 };
	const char *wanted = direction == STL_IN ? "in" : "out";
	char path[384], found[16];
	int waited;

	iio->fd = -1;
	for (waited = 0; waited <= STL_PROBE_MS; waited += 20) {
		for (iio->device = 0; iio->device < STL_IIO_DEVICES; iio->device++) {
			for (iio->index = 0; iio->index < STL_IIO_BUFFERS; iio->index++) {
				stl_iio_path_(iio, "direction", path);
				if (!stl_read_attribute_(path, found, sizeof(found)) &&
				    !strcmp(found, wanted))
					return 0;
			}
		}
		nanosleep(&step, NULL);
	}
	return -ENODEV;
}

/**
 * stl_iio_channels() - enable all channels of a buffer
 * @iio:	from stl_iio_find()
 *
 * A buffer without a channel cannot be enabled.
 *
 * Return: 0 or a negative errno; -ENOENT: it has none.
 */
static inline int stl_iio_channels(const struct stl_iio *iio)
{
	struct dirent *entry;
	char path[384];
	int ret = -ENOENT;
	size_t len;
	DIR *dir;

	stl_iio_path_(iio, "", path);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		len = strlen(entry->d_name);
		if (len < 3 || strcmp(entry->d_name + len - 3, "_en"))
			continue;
		stl_iio_path_(iio, entry->d_name, path);
		ret = stl_write_attribute_(path, "1");
		if (ret)
			break;
	}
	closedir(dir);
	return ret;
}

/**
 * stl_iio_open() - find the first buffer of a direction, enable its channels and open it
 * @iio:	filled in
 * @direction:	which way
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_iio_open(struct stl_iio *iio, enum stl_direction direction)
{
	char path[64];
	int ret, device, fd;

	ret = stl_iio_find(iio, direction);
	if (!ret)
		ret = stl_iio_channels(iio);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/dev/iio:device%d", iio->device);
	device = stl_open_(path, O_RDWR);
	if (device < 0)
		return device;
	/* In: number of the buffer. Out: its descriptor. */
	fd = iio->index;
	ret = stl_ioctl_(device, STL_IOC_IIO_BUFFER_GET_FD, &fd);
	close(device);
	if (ret < 0)
		return ret;
	iio->fd = fd;
	return 0;
}

/**
 * stl_iio_attach() - attach a DMABUF to a buffer
 * @iio:	the buffer
 * @buf:	the DMABUF
 *
 * Before stl_iio_enable(): a buffer that was enabled without is for read() and write(), and
 * refuses with -EBUSY. And all before the first stl_iio_enqueue(): in 6.12 an attach forgets
 * DMABUFs that are queued while the converter is stopped, and their fences never signal
 * (iio_dma_buffer_fileio_free() in drivers/iio/buffer/industrialio-buffer-dma.c).
 *
 * A DMABUF of a heap is cleaned from the caches now: what the CPU writes later is not. One of
 * udmabuf is not in 6.12 (map_udmabuf() in drivers/dma-buf/udmabuf.c), although its pages have
 * just been cleared.
 *
 * Return: 0 or a negative errno; -EBUSY: see above.
 */
static inline int stl_iio_attach(const struct stl_iio *iio, const struct stl_buf *buf)
{
	int fd = buf->fd;

	return stl_ioctl_(iio->fd, STL_IOC_IIO_ATTACH, &fd);
}

/**
 * stl_iio_detach() - undo stl_iio_attach()
 * @iio:	the buffer
 * @buf:	the DMABUF
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_iio_detach(const struct stl_iio *iio, const struct stl_buf *buf)
{
	int fd = buf->fd;

	return stl_ioctl_(iio->fd, STL_IOC_IIO_DETACH, &fd);
}

/**
 * stl_iio_enqueue() - give a DMABUF to the converter
 * @iio:	the buffer
 * @buf:	the DMABUF, attached
 * @bytes:	how many to transfer, from its start, in whole samples
 *
 * Returns when it is queued; its fence tells when it is done. The kernel waits for transfers
 * that the same DMABUF is queued for already.
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_iio_enqueue(const struct stl_iio *iio, const struct stl_buf *buf,
				  size_t bytes)
{
	struct stl_iio_dmabuf request = { (uint32_t)buf->fd, 0, bytes };

	return stl_ioctl_(iio->fd, STL_IOC_IIO_ENQUEUE, &request);
}

/**
 * stl_iio_enable() - start the converter
 * @iio:	the buffer
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_iio_enable(const struct stl_iio *iio)
{
	char path[384];

	stl_iio_path_(iio, "enable", path);
	return stl_write_attribute_(path, "1");
}

/**
 * stl_iio_disable() - stop the converter
 * @iio:	the buffer
 *
 * DMABUFs that are still queued come back: their fences signal with -EINTR.
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_iio_disable(const struct stl_iio *iio)
{
	char path[384];

	stl_iio_path_(iio, "enable", path);
	return stl_write_attribute_(path, "0");
}

/**
 * stl_iio_close() - close a buffer
 * @iio:	the buffer
 *
 * Detaches what is attached. Does not stop the converter.
 */
static inline void stl_iio_close(struct stl_iio *iio)
{
	if (iio->fd >= 0)
		close(iio->fd);
	iio->fd = -1;
}

/*
 * FunctionFS (Documentation/usb/functionfs.rst). @ep is the open file of a data endpoint, as
 * /dev/ffs/ep1.
 */

/**
 * stl_ffs_attach() - attach a DMABUF to an endpoint
 * @ep:		the endpoint, enabled by the host
 * @buf:	the DMABUF
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_ffs_attach(int ep, const struct stl_buf *buf)
{
	int fd = buf->fd;

	return stl_ioctl_(ep, STL_IOC_FFS_ATTACH, &fd);
}

/**
 * stl_ffs_detach() - undo stl_ffs_attach()
 * @ep:		the endpoint
 * @buf:	the DMABUF
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_ffs_detach(int ep, const struct stl_buf *buf)
{
	int fd = buf->fd;

	return stl_ioctl_(ep, STL_IOC_FFS_DETACH, &fd);
}

/**
 * stl_ffs_transfer() - give a DMABUF to the endpoint
 * @ep:		the endpoint
 * @buf:	the DMABUF, attached
 * @bytes:	how many to send or to receive, from its start
 *
 * Returns when it is queued; its fence tells when it is done.
 *
 * Return: 0 or a negative errno.
 */
static inline int stl_ffs_transfer(int ep, const struct stl_buf *buf, size_t bytes)
{
	struct stl_ffs_dmabuf_transfer_req request = { buf->fd, 0, bytes };

	return stl_ioctl_(ep, STL_IOC_FFS_TRANSFER, &request);
}

/*
 * Pattern: the data that Staleline's ADC and USB host send, and its DAC and USB host expect.
 * Word k of 8 bytes, little endian, is a mix of k and the seed, so that each byte can be told
 * right or wrong.
 *
 * These are inlined whatever the optimisation, so that an access of theirs to a buffer is one
 * of the line that called them. Each byte is accessed once.
 */

#define STL_INLINE_	static inline __attribute__((__always_inline__))

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
STL_INLINE_ uint64_t stl_mix_(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Constant of the pattern, the same in images/protocol/src/pattern.rs. */
STL_INLINE_ uint64_t stl_key_(uint64_t seed)
{
	return stl_mix_(seed ^ UINT64_C(0x57414c454c494e45));
}

STL_INLINE_ uint64_t stl_le64_(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	return word;
}

/**
 * stl_pattern_fill() - write a part of the pattern
 * @seed:	seed of the run, see stl_seed()
 * @offset:	the byte of the stream to begin with
 * @data:	where to
 * @bytes:	how many
 */
STL_INLINE_ void stl_pattern_fill(uint64_t seed, uint64_t offset, void *data, size_t bytes)
{
	uint64_t key = stl_key_(seed);
	volatile uint8_t *to = (volatile uint8_t *)data;
	size_t n = 0;

	while (n < bytes) {
		uint64_t at = offset + n, word = stl_mix_(at / 8 ^ key);

		if (at % 8 == 0 && bytes - n >= 8 && (uintptr_t)(to + n) % 8 == 0) {
			*(volatile uint64_t *)(to + n) = stl_le64_(word);
			n += 8;
		} else {
			to[n] = (uint8_t)(word >> 8 * (at % 8));
			n++;
		}
	}
}

/**
 * stl_pattern_check() - compare data with a part of the pattern
 * @seed:	seed of the run, see stl_seed()
 * @offset:	the byte of the stream to begin with
 * @data:	the data
 * @bytes:	how many
 * @first:	out: byte of the stream of the first one that is wrong, or @offset + @bytes if none
 *		is; may be NULL
 *
 * Return: how many bytes are wrong.
 */
STL_INLINE_ size_t stl_pattern_check(uint64_t seed, uint64_t offset, const void *data,
				     size_t bytes, uint64_t *first)
{
	uint64_t key = stl_key_(seed);
	const volatile uint8_t *from = (const volatile uint8_t *)data;
	size_t n = 0, wrong = 0;

	if (first)
		*first = offset + bytes;
	while (n < bytes) {
		uint64_t at = offset + n, diff = stl_mix_(at / 8 ^ key);

		if (at % 8 == 0 && bytes - n >= 8 && (uintptr_t)(from + n) % 8 == 0) {
			diff ^= stl_le64_(*(const volatile uint64_t *)(from + n));
			n += 8;
		} else {
			diff = (uint8_t)(diff >> 8 * (at % 8)) ^ from[n];
			n++;
		}
		for (; diff; at++, diff >>= 8) {
			if (!(diff & 0xff))
				continue;
			if (!wrong && first)
				*first = at;
			wrong++;
		}
	}
	return wrong;
}

/*
 * For short programs: these end the program with exit code 2 where something goes wrong, so
 * that 1 is left for wrong data.
 */

#define STL_EXIT_TROUBLE	2

/**
 * stl_die() - end the program with a message
 * @error:	a negative errno, or 0
 * @format:	as of printf()
 */
__attribute__((__noreturn__, __format__(__printf__, 2, 3)))
static inline void stl_die(int error, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	if (error)
		fprintf(stderr, ": %s", strerror(-error));
	fputc('\n', stderr);
	exit(STL_EXIT_TROUBLE);
}

static inline int stl_must_(int ret, const char *call, const char *file, int line)
{
	if (ret < 0)
		stl_die(ret, "%s:%d: %s", file, line, call);
	return ret;
}

/**
 * stl_must() - end the program if a call fails
 * @call:	the call, with a negative errno on failure; evaluated once
 *
 * Return: what the call returned otherwise.
 */
#define stl_must(call) stl_must_((call), #call, __FILE__, __LINE__)

/**
 * stl_seed() - the seed of the run's patterns
 *
 * The variable STALELINE_SEED, which `staleline exec` sets; without it 1, which is what a run
 * has unless it is told otherwise.
 *
 * Return: the seed.
 */
static inline uint64_t stl_seed(void)
{
	const char *text = getenv("STALELINE_SEED");
	uint64_t seed;
	char *end;

	if (!text)
		return 1;
	errno = 0;
	seed = strtoull(text, &end, 10);
	/* strtoull() takes a sign, and negates. */
	if (errno || *text < '0' || *text > '9' || *end)
		stl_die(0, "STALELINE_SEED=%s is not a number from 0 to 2^64 - 1", text);
	return seed;
}

#endif /* STALELINE_H */
