// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies a page by DMA whose source, or copy, the CPU only sees through a write-combining mapping of
 * its own, for which no maintenance is needed.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/vmalloc.h>

#include "copies.h"

static bool target;
module_param(target, bool, 0);
MODULE_PARM_DESC(target, "it is the copy that is seen like that, and not the source");

static bool late;
module_param(late, bool, 0);
MODULE_PARM_DESC(late, "the source is written once the mapping is gone, through the cache: wrong");

static u8 pattern(size_t at)
{
	return at * 11 + (at >> 8) + 5;
}

static noinline void fill(u8 *page)
{
	size_t at;

	for (at = 0; at < PAGE_SIZE; at++)
		WRITE_ONCE(page[at], pattern(at));
}

static noinline int wrong_bytes(const u8 *page)
{
	int wrong = 0;
	size_t at;

	for (at = 0; at < PAGE_SIZE; at++)
		wrong += READ_ONCE(page[at]) != pattern(at);
	return wrong;
}

/* The number of wrong bytes, or an error. */
static int copy(struct device *dev, struct page *to, struct page *from)
{
	struct page *page = target ? to : from;
	dma_addr_t dma_from, dma_to;
	int ret, wrong = 0;
	u8 *uncached;

	if (target)
		fill(page_address(from));
	/* Both are cleaned by that, so that no line is left to be written back. */
	dma_from = dma_map_page(dev, from, 0, PAGE_SIZE, DMA_TO_DEVICE);
	dma_to = dma_map_page(dev, to, 0, PAGE_SIZE, DMA_FROM_DEVICE);

	uncached = vmap(&page, 1, VM_MAP, pgprot_writecombine(PAGE_KERNEL));
	if (!uncached) {
		ret = -ENOMEM;
		goto unmap;
	}
	if (!target && !late) {
		fill(uncached);
		/* Before the device is told to go */
		wmb();
	}
	if (late) {
		vunmap(uncached);
		fill(page_address(from));
	}
	ret = begin(dma_to, dma_from, PAGE_SIZE) ?: wait();
	if (target)
		wrong = wrong_bytes(uncached);
	if (!late)
		vunmap(uncached);
unmap:
	dma_unmap_page(dev, dma_to, PAGE_SIZE, DMA_FROM_DEVICE);
	dma_unmap_page(dev, dma_from, PAGE_SIZE, DMA_TO_DEVICE);
	if (!target)
		wrong = wrong_bytes(page_address(to));
	return ret ?: wrong;
}

static int __init uncached_init(void)
{
	int ret = with_pages(copy);

	if (ret > 0) {
		pr_err("%d bytes are wrong\n", ret);
		ret = -EIO;
	}
	return ret;
}
module_init(uncached_init);

static void __exit uncached_exit(void)
{
}
module_exit(uncached_exit);

MODULE_DESCRIPTION("Copies through a write-combining mapping");
MODULE_LICENSE("GPL");
