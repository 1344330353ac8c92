// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Three programs for one place: the first marks small packets, the second drops what is marked, the third counts.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SMALL 64
#define MARK 0x5a
// enum tcx_action_base, which older headers do not have
#define TCX_NEXT -1
#define TCX_DROP 2

__u64 seen = 0;

SEC("tcx/ingress")
int mark_small(struct __sk_buff *skb)
{
	if (skb->len < SMALL)
		skb->mark = MARK;
	return TCX_NEXT;
}

SEC("tcx/ingress")
int drop_marked(struct __sk_buff *skb)
{
	return skb->mark == MARK ? TCX_DROP : TCX_NEXT;
}

SEC("tcx/ingress")
int count_all(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&seen, 1);
	return TCX_NEXT;
}

char LICENSE[] SEC("license") = "GPL";
