// A small load balancer: hash ring in an array, back ends in another, statistics per back end, encapsulation in UDP.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define RING 16

struct backend {
	__be32 addr;
	__u8 mac[6];
	__u16 weight;
};

struct usage {
	__u64 packets, bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RING);
	__type(key, __u32);
	__type(value, __u32);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct usage);
} usage SEC(".maps");

static __noinline __u32 flow_hash(__u32 saddr, __u32 ports)
{
	__u64 h = (__u64)saddr << 32 | ports;

	h ^= h >> 33;
	h *= 0xff51afd7ed558ccd;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53;
	h ^= h >> 33;
	return h;
}

static __always_inline void account(__u32 key, __u64 bytes)
{
	struct usage *u = bpf_map_lookup_elem(&usage, &key), fresh = { 1, bytes };

	if (!u) {
		bpf_map_update_elem(&usage, &key, &fresh, BPF_ANY);
		return;
	}
	u->packets++;
	u->bytes += bytes;
}

SEC("xdp")
int balancer(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data, old;
	struct iphdr *ip = data + sizeof(*eth);
	__u32 *ports = (void *)(ip + 1), slot, *index;
	__u16 inner_len;
	struct udphdr *udp;
	struct backend *b;
	const int room = sizeof(*ip) + sizeof(*udp);

	if ((void *)(ports + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return XDP_PASS;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	slot = flow_hash(ip->saddr, *ports) % RING;
	index = bpf_map_lookup_elem(&ring, &slot);
	if (!index)
		return XDP_ABORTED;
	b = bpf_map_lookup_elem(&backends, index);
	if (!b || !b->weight)
		return XDP_DROP;
	account(*index, data_end - data);

	inner_len = bpf_ntohs(ip->tot_len);
	old = *eth;
	if (bpf_xdp_adjust_head(ctx, -room))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	eth = data;
	ip = data + sizeof(*eth);
	udp = (void *)(ip + 1);
	if ((void *)(udp + 1) > data_end)
		return XDP_ABORTED;
	*eth = old;
	__builtin_memcpy(eth->h_source, old.h_dest, 6);
	__builtin_memcpy(eth->h_dest, b->mac, 6);
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = IPPROTO_UDP;
	ip->tot_len = bpf_htons(inner_len + room);
	ip->saddr = bpf_htonl(0x0a0000fe);
	ip->daddr = b->addr;
	udp->source = bpf_htons(0xc000 | (slot & 0xfff));
	udp->dest = bpf_htons(6080);
	udp->len = bpf_htons(inner_len + sizeof(*udp));
	udp->check = 0;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
