// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
/*
 * Captures frames from the ADC into two DMABUFs and checks them.
 *
 *	make
 *	staleline exec -- ./capture		passes
 *	staleline exec -- ./capture -n		leaves SYNC out: missing-invalidate where it reads
 *	staleline exec -- ./capture -u		does by instructions what SYNC would do: passes
 *
 * Options: -n (no SYNC), -u (DC CIVAC in its place), -f FRAMES (8), -e system|cma|udmabuf (system).
 *
 * The ADC's DMA engine does not snoop the CPU's caches. They still hold lines from when the
 * pages were cleared, and the CPU may fetch more at any time. SYNC has them forgotten, once the
 * device is done; what was fetched before is read in place of the samples otherwise.
 *
 * A kernel that synchronises each DMABUF transfer itself (--kernel begin-end-access) passes
 * either way.
 *
 * With -e udmabuf an unpatched kernel fails on its own account: udmabuf hands over pages
 * without a clean.
 */
#include <staleline.h>

#define BUFFERS 2
#define BYTES 16384
#define LINE 64

/* Nobody has written these lines, so that there is nothing to clean. */
static void forget(const char *from, size_t len)
{
	const char *line;

	for (line = from; line < from + len; line += LINE)
		asm volatile("dc civac, %0" : : "r" (line) : "memory");
	asm volatile("dsb sy" : : : "memory");
}

int main(int argc, char **argv)
{
	enum stl_exporter exporter = STL_SYSTEM;
	struct stl_buf bufs[BUFFERS];
	int fences[BUFFERS];
	struct stl_iio adc;
	size_t wrong = 0;
	int opt, n, frames = 8, sync = 1, by_hand = 0;

	while ((opt = getopt(argc, argv, "nuf:e:")) != -1) {
		if (opt == 'n')
			sync = 0;
		else if (opt == 'u')
			sync = 0, by_hand = 1;
		else if (opt == 'f')
			frames = atoi(optarg);
		else if (opt == 'e')
			exporter = (enum stl_exporter)stl_must(stl_exporter_named(optarg));
		else
			return STL_EXIT_TROUBLE;
	}

	stl_must(stl_iio_open(&adc, STL_IN));
	for (n = 0; n < BUFFERS; n++) {
		stl_must(stl_buf_alloc(&bufs[n], exporter, BYTES));
		stl_must(stl_iio_attach(&adc, &bufs[n]));
	}
	for (n = 0; n < BUFFERS && n < frames; n++) {
		stl_must(stl_iio_enqueue(&adc, &bufs[n], BYTES));
		fences[n] = stl_must(stl_fence_get(&bufs[n], STL_READ));
	}
	stl_must(stl_iio_enable(&adc));

	for (n = 0; n < frames; n++) {
		struct stl_buf *buf = &bufs[n % BUFFERS];
		int *fence = &fences[n % BUFFERS];
		uint64_t first;
		size_t bad;

		stl_must(stl_fence_wait(*fence, 1000));
		close(*fence);
		if (sync)
			stl_must(stl_sync_start(buf, STL_READ));
		if (by_hand)
			forget(buf->map, BYTES);
		bad = stl_pattern_check(stl_seed(), (uint64_t)n * BYTES, buf->map, BYTES, &first);
		if (sync)
			stl_must(stl_sync_end(buf, STL_READ));
		if (bad)
			printf("frame %d: %zu bytes wrong, the first at %" PRIu64 " of the stream\n",
			       n, bad, first);
		wrong += bad;

		if (n + BUFFERS < frames) {
			stl_must(stl_iio_enqueue(&adc, buf, BYTES));
			*fence = stl_must(stl_fence_get(buf, STL_READ));
		}
	}
	stl_must(stl_iio_disable(&adc));

	if (!wrong)
		printf("%d frames of %d bytes, all right\n", frames, BYTES);
	return wrong > 0;
}
