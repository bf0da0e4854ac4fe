// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
/*
 * Fills two DMABUFs, again and again, and plays them by the DAC.
 *
 *	make
 *	staleline exec -- ./playback		passes
 *	staleline exec -- ./playback -n		leaves SYNC out: missing-clean of what it writes
 *	staleline exec -- ./playback -u		does by instructions what SYNC would do: passes
 *
 * Options: -n (no SYNC), -u (DC CVAC in its place), -f FRAMES (8), -e system|cma|udmabuf (system).
 *
 * What the CPU writes stays in its cache until something has it written to memory, and the
 * DAC's DMA engine reads memory. SYNC_END does that. Here the program itself cannot see the
 * mistake: what was sent too early is only wrong at the converter. Frames that are filled
 * before the first enqueue are no exception, although attaching a DMABUF cleans it, too: they
 * are filled after that.
 *
 * A kernel that synchronises each DMABUF transfer itself (--kernel begin-end-access) passes
 * either way.
 */
#include <staleline.h>

#define BUFFERS 2
#define BYTES 16384
#define LINE 64

static void clean(const char *from, size_t len)
{
	const char *line;

	for (line = from; line < from + len; line += LINE)
		asm volatile("dc cvac, %0" : : "r" (line) : "memory");
	asm volatile("dsb sy" : : : "memory");
}

int main(int argc, char **argv)
{
	enum stl_exporter exporter = STL_SYSTEM;
	struct stl_buf bufs[BUFFERS];
	int fences[BUFFERS];
	struct stl_iio dac;
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

	stl_must(stl_iio_open(&dac, STL_OUT));
	for (n = 0; n < BUFFERS; n++) {
		stl_must(stl_buf_alloc(&bufs[n], exporter, BYTES));
		stl_must(stl_iio_attach(&dac, &bufs[n]));
		fences[n] = -1;
	}

	for (n = 0; n < frames; n++) {
		struct stl_buf *buf = &bufs[n % BUFFERS];
		int *fence = &fences[n % BUFFERS];

		if (*fence >= 0) {
			stl_must(stl_fence_wait(*fence, 1000));
			close(*fence);
		}
		if (sync)
			stl_must(stl_sync_start(buf, STL_WRITE));
		stl_pattern_fill(stl_seed(), (uint64_t)n * BYTES, buf->map, BYTES);
		if (sync)
			stl_must(stl_sync_end(buf, STL_WRITE));
		if (by_hand)
			clean(buf->map, BYTES);
		stl_must(stl_iio_enqueue(&dac, buf, BYTES));
		*fence = stl_must(stl_fence_get(buf, STL_WRITE));
		/* The converter starts when all buffers, or all frames, are queued. */
		if (n == BUFFERS - 1 || (n == frames - 1 && n < BUFFERS - 1))
			stl_must(stl_iio_enable(&dac));
	}
	for (n = 0; n < BUFFERS && n < frames; n++)
		stl_must(stl_fence_wait(fences[n], 1000));
	stl_must(stl_iio_disable(&dac));
	printf("%d frames of %d bytes sent\n", frames, BYTES);
	return 0;
}
