// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// What takes the place of a slot of the dispatcher (dispatcher.bpf.c): the loader says of which program, and may put
// each of them into any slot.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u16);
	__type(value, __u64);
} ports SEC(".maps");

static __always_inline struct udphdr *udp_header(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_UDP || ip->ihl != 5)
		return NULL;
	return udp;
}

SEC("freplace/slot0")
int drop_telnet(struct xdp_md *ctx)
{
	struct udphdr *udp = udp_header(ctx);

	return udp && udp->dest == bpf_htons(23) ? XDP_DROP : XDP_PASS;
}

SEC("freplace/slot1")
int count_ports(struct xdp_md *ctx)
{
	struct udphdr *udp = udp_header(ctx);
	__u64 zero = 0, *count;
	__u16 port;

	if (!udp)
		return XDP_PASS;
	port = bpf_ntohs(udp->dest);
	bpf_map_update_elem(&ports, &port, &zero, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&ports, &port);
	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
