// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
/*
 * Reads what the ADC has captured, with a SYNC that comes before the end of the transfer.
 *
 *	make
 *	staleline exec -- ./early-sync		missing-invalidate, with a SYNC around the read
 *	staleline exec -- ./early-sync -w	waits for the fence first: passes
 *
 * DMA_BUF_IOCTL_SYNC waits for the device's fence, so that this seems to be enough. But the
 * kernel has the exporter do its cache maintenance first and waits then
 * (dma_buf_begin_cpu_access() in drivers/dma-buf/dma-buf.c): while it waits, the CPU is free to
 * fetch old lines again, speculatively, and nobody invalidates those. On most days it does not,
 * and the data are right: the finding is latent.
 *
 * A kernel that synchronises each DMABUF transfer itself (--kernel begin-end-access) passes
 * either way.
 */
#include <staleline.h>

/* Long enough for the SYNC to come while the transfer is in flight. */
#define BYTES (1 << 20)

int main(int argc, char **argv)
{
	int wait = argc > 1 && !strcmp(argv[1], "-w");
	struct stl_buf buf;
	struct stl_iio adc;
	size_t wrong;

	stl_must(stl_iio_open(&adc, STL_IN));
	stl_must(stl_buf_alloc(&buf, STL_SYSTEM, BYTES));
	stl_must(stl_iio_attach(&adc, &buf));
	stl_must(stl_iio_enqueue(&adc, &buf, BYTES));
	stl_must(stl_iio_enable(&adc));
	if (wait)
		stl_must(stl_wait(&buf, STL_READ, 1000));

	stl_must(stl_sync_start(&buf, STL_READ));
	wrong = stl_pattern_check(stl_seed(), 0, buf.map, BYTES, NULL);
	stl_must(stl_sync_end(&buf, STL_READ));

	stl_must(stl_iio_disable(&adc));
	printf("%zu of %d bytes wrong\n", wrong, BYTES);
	return wrong > 0;
}
