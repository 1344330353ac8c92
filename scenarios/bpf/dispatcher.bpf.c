// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// One XDP program for a device, with places for others: slot0() and slot1() let every packet pass until programs of
// type freplace (components.bpf.c) take their places. This is how libxdp runs several programs on one device.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// The kernel replaces global functions only; `ret` keeps the compiler from knowing what they return.
#define SLOT(name)                              \
	__noinline int name(struct xdp_md *ctx) \
	{                                       \
		volatile int ret = XDP_PASS;    \
                                                \
		if (!ctx)                       \
			return XDP_ABORTED;     \
		return ret;                     \
	}

SLOT(slot0)
SLOT(slot1)

SEC("xdp")
int dispatcher(struct xdp_md *ctx)
{
	int verdict = slot0(ctx);

	if (verdict != XDP_PASS)
		return verdict;
	return slot1(ctx);
}

char LICENSE[] SEC("license") = "GPL";
