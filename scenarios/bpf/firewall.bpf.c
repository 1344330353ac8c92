// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A firewall: drops what comes from a blocked IPv4 address, lets everything else pass, and counts both.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct counter {
	__u64 packets;
	__u64 bytes; // whole frames, from the Ethernet header on
};

// The blocklist: IPv4 source address, as it is in the packet -> any value. User space fills it.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, __u32);
} blocked SEC(".maps");

// What was done, by verdict: stats[XDP_DROP] (key 1) and stats[XDP_PASS] (key 2).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, XDP_REDIRECT + 1);
	__type(key, __u32);
	__type(value, struct counter);
} stats SEC(".maps");

static __always_inline int count(__u32 verdict, __u64 bytes)
{
	struct counter *c = bpf_map_lookup_elem(&stats, &verdict);

	if (c) {
		__sync_fetch_and_add(&c->packets, 1);
		__sync_fetch_and_add(&c->bytes, bytes);
	}
	return verdict;
}

SEC("xdp")
int firewall(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	__u64 bytes = data_end - data;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return count(XDP_PASS, bytes); // ARP, IPv6 and the like are not our business

	if (bpf_map_lookup_elem(&blocked, &ip->saddr))
		return count(XDP_DROP, bytes);

	return count(XDP_PASS, bytes);
}

char LICENSE[] SEC("license") = "GPL";
