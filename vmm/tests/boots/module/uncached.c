// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies a page by DMA whose source, or copy, the CPU only sees through a write-combining mapping of
 * its own, for which no maintenance is needed.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/dmaengine.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/vmalloc.h>

static bool target;
module_param(target, bool, 0);
MODULE_PARM_DESC(target, "it is the copy that is seen like that, and not the source");

static bool late;
module_param(late, bool, 0);
MODULE_PARM_DESC(late, "the source is written once the mapping is gone, through the cache: wrong");

static struct dma_chan *chan;

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

static void copied(void *done)
{
	complete(done);
}

static int move_page(dma_addr_t to, dma_addr_t from)
{
	DECLARE_COMPLETION_ONSTACK(done);
	struct dma_async_tx_descriptor *tx;

	tx = dmaengine_prep_dma_memcpy(chan, to, from, PAGE_SIZE, DMA_CTRL_ACK | DMA_PREP_INTERRUPT);
	if (!tx)
		return -ENOMEM;
	tx->callback = copied;
	tx->callback_param = &done;
	if (dma_submit_error(dmaengine_submit(tx)))
		return -EIO;
	dma_async_issue_pending(chan);
	if (!wait_for_completion_timeout(&done, 5 * HZ)) {
		dmaengine_terminate_sync(chan);
		return -ETIMEDOUT;
	}
	return 0;
}

/* The number of wrong bytes, or an error. */
static int copy(struct page *to, struct page *from)
{
	struct device *dev = dmaengine_get_dma_device(chan);
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
	ret = move_page(dma_to, dma_from);
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
	struct page *to, *from;
	dma_cap_mask_t mask;
	int ret = -ENOMEM;

	dma_cap_zero(mask);
	dma_cap_set(DMA_MEMCPY, mask);
	chan = dma_request_chan_by_mask(&mask);
	if (IS_ERR(chan))
		return PTR_ERR(chan);
	to = alloc_page(GFP_KERNEL | __GFP_ZERO);
	from = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (to && from)
		ret = copy(to, from);
	if (from)
		__free_page(from);
	if (to)
		__free_page(to);
	dma_release_channel(chan);
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
