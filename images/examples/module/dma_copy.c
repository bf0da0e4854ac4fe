// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies a page with a DMA engine and looks whether the copy is right.
 *
 *	staleline module build images/examples/module --kernel base+userland
 *	set="--set board.gdma.port=hp --kernel base+userland"
 *	staleline exec $set --module dma_copy.ko		passes
 *	staleline exec $set --module dma_copy.ko:forget=1	missing-invalidate where it looks
 *
 * The board's GDMA does not snoop the CPU's caches. They still hold lines of the page that the copy
 * goes to, from when it was filled, and may fetch more at any time while the copy is under way.
 * dma_unmap_page() has them forgotten. With forget=1 the CPU looks before that, and sees what was
 * there before, or the copy: whatever the cache holds.
 *
 * Each read of /dev/dma_copy makes one more copy and says how many bytes were wrong.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/dmaengine.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

/* Guest time, which is not the host's. */
#define TIMEOUT_MS	5000
#define OLD		0x55

static bool forget;
module_param(forget, bool, 0644);
MODULE_PARM_DESC(forget, "look at the copy before dma_unmap_page()");

static struct dma_chan *chan;

static u8 pattern(size_t at)
{
	return at * 7 + (at >> 8);
}

static void copied(void *done)
{
	complete(done);
}

/* Has the engine move a page, both ends of which are mapped. */
static int move_page(dma_addr_t to, dma_addr_t from)
{
	DECLARE_COMPLETION_ONSTACK(done);
	struct dma_async_tx_descriptor *tx;
	dma_cookie_t cookie;

	tx = dmaengine_prep_dma_memcpy(chan, to, from, PAGE_SIZE,
				       DMA_CTRL_ACK | DMA_PREP_INTERRUPT);
	if (!tx)
		return -ENOMEM;
	tx->callback = copied;
	tx->callback_param = &done;
	cookie = dmaengine_submit(tx);
	if (dma_submit_error(cookie))
		return -EIO;
	dma_async_issue_pending(chan);
	if (!wait_for_completion_timeout(&done, msecs_to_jiffies(TIMEOUT_MS))) {
		dmaengine_terminate_sync(chan);
		return -ETIMEDOUT;
	}
	return 0;
}

static noinline int wrong_bytes(const u8 *copy)
{
	int wrong = 0;
	size_t at;

	for (at = 0; at < PAGE_SIZE; at++)
		wrong += READ_ONCE(copy[at]) != pattern(at);
	return wrong;
}

/* The number of wrong bytes, or an error. */
static int copy_page_by_dma(struct page *to, struct page *from)
{
	struct device *dev = dmaengine_get_dma_device(chan);
	dma_addr_t dma_from, dma_to;
	int ret, wrong = 0;
	size_t at;

	for (at = 0; at < PAGE_SIZE; at++)
		((u8 *)page_address(from))[at] = pattern(at);
	memset(page_address(to), OLD, PAGE_SIZE);

	dma_from = dma_map_page(dev, from, 0, PAGE_SIZE, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, dma_from))
		return -EIO;
	dma_to = dma_map_page(dev, to, 0, PAGE_SIZE, DMA_FROM_DEVICE);
	if (dma_mapping_error(dev, dma_to)) {
		dma_unmap_page(dev, dma_from, PAGE_SIZE, DMA_TO_DEVICE);
		return -EIO;
	}

	ret = move_page(dma_to, dma_from);
	if (!ret && forget)
		wrong = wrong_bytes(page_address(to));

	dma_unmap_page(dev, dma_to, PAGE_SIZE, DMA_FROM_DEVICE);
	dma_unmap_page(dev, dma_from, PAGE_SIZE, DMA_TO_DEVICE);
	if (!ret && !forget)
		wrong = wrong_bytes(page_address(to));
	return ret ?: wrong;
}

static int copy_once(void)
{
	struct page *from = alloc_page(GFP_KERNEL);
	struct page *to = alloc_page(GFP_KERNEL);
	int ret = -ENOMEM;

	if (from && to)
		ret = copy_page_by_dma(to, from);
	if (to)
		__free_page(to);
	if (from)
		__free_page(from);
	return ret;
}

static ssize_t dma_copy_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	char text[32];
	int wrong;

	if (*ppos)
		return 0;
	wrong = copy_once();
	if (wrong < 0)
		return wrong;
	return simple_read_from_buffer(buf, count, ppos, text,
				       scnprintf(text, sizeof(text), "%d bytes wrong\n", wrong));
}

static const struct file_operations dma_copy_fops = {
	.owner = THIS_MODULE,
	.read = dma_copy_read,
};

static struct miscdevice dma_copy_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &dma_copy_fops,
};

static int __init dma_copy_init(void)
{
	dma_cap_mask_t mask;
	int ret;

	dma_cap_zero(mask);
	dma_cap_set(DMA_MEMCPY, mask);
	chan = dma_request_chan_by_mask(&mask);
	if (IS_ERR(chan)) {
		pr_err("no DMA engine copies memory: set board.gdma.port\n");
		return PTR_ERR(chan);
	}

	ret = copy_once();
	if (ret > 0) {
		pr_err("%d bytes of the copy are wrong\n", ret);
		ret = -EIO;
	}
	if (!ret)
		ret = misc_register(&dma_copy_device);
	if (ret)
		dma_release_channel(chan);
	return ret;
}
module_init(dma_copy_init);

static void __exit dma_copy_exit(void)
{
	misc_deregister(&dma_copy_device);
	dma_release_channel(chan);
}
module_exit(dma_copy_exit);

MODULE_DESCRIPTION("Example: a copy by DMA, right or with its unmap too late");
MODULE_LICENSE("GPL");
