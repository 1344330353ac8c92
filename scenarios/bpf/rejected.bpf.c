// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A program with the most common mistake there is: it reads the IP header without asking whether the packet is long
// enough to have one. The verifier refuses it; mended.bpf.c is the same program as it should be.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int unchecked(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct iphdr *ip = data + sizeof(struct ethhdr);

	return ip->protocol == IPPROTO_UDP ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
