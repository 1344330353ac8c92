// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Counts IPv4 packets by protocol number, in a hash map whose values are structs, and lets everything pass.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct protocol_stats {
	__u64 packets;
	__u64 bytes;	 // sum of the IP total lengths
	__u16 shortest;	 // smallest and largest IP total length seen
	__u16 longest;
	__be32 last_src; // who sent the last one
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u8);
	__type(value, struct protocol_stats);
} by_protocol SEC(".maps");

SEC("xdp")
int count_by_protocol(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct protocol_stats *stats;
	__u16 length;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;

	length = bpf_ntohs(ip->tot_len);
	stats = bpf_map_lookup_elem(&by_protocol, &ip->protocol);
	if (!stats) {
		struct protocol_stats first = {
			.packets = 1,
			.bytes = length,
			.shortest = length,
			.longest = length,
			.last_src = ip->saddr,
		};

		// BPF_NOEXIST: should another CPU have been faster, its entry stays
		bpf_map_update_elem(&by_protocol, &ip->protocol, &first, BPF_NOEXIST);
		return XDP_PASS;
	}
	__sync_fetch_and_add(&stats->packets, 1);
	__sync_fetch_and_add(&stats->bytes, length);
	if (length < stats->shortest)
		stats->shortest = length;
	if (length > stats->longest)
		stats->longest = length;
	stats->last_src = ip->saddr;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
