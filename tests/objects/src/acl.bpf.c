// An access list: rules in an array map, first match wins, prefixes and port ranges.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define RULES 8

struct rule {
	__be32 net;
	__u8 bits;
	__u8 proto; // 0: any
	__u16 port_low, port_high;
	__u16 action;
	__u32 hits;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RULES);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

static __always_inline int matches(const struct rule *r, __u32 addr, __u8 proto, __u16 port)
{
	__u32 mask = r->bits ? ~0u << (32 - (r->bits & 31)) : 0;

	if (r->bits == 32)
		mask = ~0u;
	if ((addr ^ bpf_ntohl(r->net)) & mask)
		return 0;
	if (r->proto && r->proto != proto)
		return 0;
	return port >= r->port_low && port <= r->port_high;
}

SEC("xdp")
int acl(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *l4 = (void *)(ip + 1);
	__u32 addr, i;
	__u16 port;

	if ((void *)(l4 + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return XDP_PASS;
	addr = bpf_ntohl(ip->saddr);
	port = bpf_ntohs(l4->dest);
	for (i = 0; i < RULES; i++) {
		__u32 key = i;
		struct rule *r = bpf_map_lookup_elem(&rules, &key);

		if (!r)
			break;
		if (!r->action)
			continue;
		if (matches(r, addr, ip->protocol, port)) {
			r->hits++;
			return r->action;
		}
	}
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
