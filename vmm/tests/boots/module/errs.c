// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver that has a page filled by DMA, and errs in one way or another.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/string.h>

#include "copies.h"

static char *how = "";
module_param(how, charp, 0);
MODULE_PARM_DESC(how, "early, racing, part, shared; else right");

/* Not a whole number of cache lines: some of the last line is not the device's. */
#define ODD (PAGE_SIZE / 4 + 32)

static bool errs(const char *this)
{
	return !strcmp(how, this);
}

static noinline int sum(const u8 *page, size_t len)
{
	int all = 0;
	size_t at;

	for (at = 0; at < len; at++)
		all += READ_ONCE(page[at]);
	return all;
}

static int fill(struct device *dev, struct page *to, struct page *from)
{
	u8 *bytes = page_address(to);
	size_t len = errs("shared") ? ODD : PAGE_SIZE;
	dma_addr_t dma_from, dma_to;
	int ret;

	dma_from = dma_map_page(dev, from, 0, len, DMA_TO_DEVICE);
	dma_to = dma_map_page(dev, to, 0, len, DMA_FROM_DEVICE);

	ret = begin(dma_to, dma_from, len);
	if (errs("racing")) {
		/* No time for anything to happen in between. */
		dma_unmap_page(dev, dma_to, len, DMA_FROM_DEVICE);
		sum(bytes, len);
	} else if (errs("early")) {
		dma_unmap_page(dev, dma_to, len, DMA_FROM_DEVICE);
	}
	ret = ret ?: wait();
	if (errs("part")) {
		dma_sync_single_for_cpu(dev, dma_to, len / 4, DMA_FROM_DEVICE);
		sum(bytes, len);
	}
	if (errs("shared"))
		memset(bytes + len, 7, 16);
	if (!errs("racing") && !errs("early"))
		dma_unmap_page(dev, dma_to, len, DMA_FROM_DEVICE);

	dma_unmap_page(dev, dma_from, len, DMA_TO_DEVICE);
	if (!errs("racing"))
		sum(bytes, len);
	return ret;
}

static int __init errs_init(void)
{
	return with_pages(fill);
}
module_init(errs_init);

static void __exit errs_exit(void)
{
}
module_exit(errs_exit);

MODULE_DESCRIPTION("Errs with streaming DMA mappings");
MODULE_LICENSE("GPL");
