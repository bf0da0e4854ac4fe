/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests' modules have in common that have the board's DMA engine copy a page, once.
 */
#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/dmaengine.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>

static struct dma_chan *chan;
static DECLARE_COMPLETION(done);

static void copied(void *unused)
{
	complete(&done);
}

static int begin(dma_addr_t to, dma_addr_t from, size_t len)
{
	struct dma_async_tx_descriptor *tx;

	tx = dmaengine_prep_dma_memcpy(chan, to, from, len, DMA_CTRL_ACK | DMA_PREP_INTERRUPT);
	if (!tx)
		return -ENOMEM;
	tx->callback = copied;
	if (dma_submit_error(dmaengine_submit(tx)))
		return -EIO;
	dma_async_issue_pending(chan);
	return 0;
}

static int wait(void)
{
	if (wait_for_completion_timeout(&done, 5 * HZ))
		return 0;
	dmaengine_terminate_sync(chan);
	return -ETIMEDOUT;
}

/* Has that called once, with the engine's device and two pages. */
static int with_pages(int (*copy)(struct device *dev, struct page *to, struct page *from))
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
		ret = copy(dmaengine_get_dma_device(chan), to, from);
	if (from)
		__free_page(from);
	if (to)
		__free_page(to);
	dma_release_channel(chan);
	return ret;
}
