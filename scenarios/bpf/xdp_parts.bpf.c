// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Programs that take places of a dispatcher (libxdp.bpf.c): two that count and let everything pass, and a firewall.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

enum { SAMPLER, COUNTER, FIREWALL, SLOTS };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

// the port of UDP that a packet goes to, 0 for all others; counts it for a program
static __always_inline int port_of(struct xdp_md *ctx, __u32 program)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u64 *count;

	if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_UDP || ip->ihl != 5)
		return 0;
	count = bpf_map_lookup_elem(&seen, &program);
	if (count)
		__sync_fetch_and_add(count, 1);
	return bpf_ntohs(udp->dest);
}

SEC("freplace/prog0")
int sampler(struct xdp_md *ctx)
{
	port_of(ctx, SAMPLER);
	return XDP_PASS;
}

SEC("freplace/prog0")
int counter(struct xdp_md *ctx)
{
	port_of(ctx, COUNTER);
	return XDP_PASS;
}

SEC("freplace/prog0")
int firewall(struct xdp_md *ctx)
{
	return port_of(ctx, FIREWALL) == 23 ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
