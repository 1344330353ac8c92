// A count-min sketch of sources with the four largest beside it.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ROWS 4
#define COLUMNS 64

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ROWS);
	__type(key, __u32);
	__type(value, __u32[COLUMNS]);
} sketch SEC(".maps");

struct {
	__u32 addr, count;
} largest[4];

static __always_inline __u32 mix(__u32 x)
{
	x *= 0x85ebca6b;
	x ^= x >> 13;
	x *= 0xc2b2ae35;
	return x ^ x >> 16;
}

SEC("xdp")
int count_min(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	__u32 estimate = ~0u, smallest = 0;

	if ((void *)(ip + 1) > data_end)
		return XDP_PASS;
	for (__u32 row = 0; row < ROWS; row++) {
		__u32 key = row, *counts = bpf_map_lookup_elem(&sketch, &key), count;

		if (!counts)
			return XDP_ABORTED;
		count = ++counts[mix(ip->saddr ^ row * 0x9e3779b9) % COLUMNS];
		if (count < estimate)
			estimate = count;
	}
	for (__u32 i = 0; i < 4; i++) {
		if (largest[i].addr == ip->saddr) {
			largest[i].count = estimate;
			return XDP_PASS;
		}
		if (largest[i].count < largest[smallest & 3].count)
			smallest = i;
	}
	if (estimate > largest[smallest & 3].count) {
		largest[smallest & 3].addr = ip->saddr;
		largest[smallest & 3].count = estimate;
	}
	return estimate > 2 ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
