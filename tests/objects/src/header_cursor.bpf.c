// Parsing with a cursor that walks along, each header in a small function: VLANs, IPv4 or IPv6, TCP, UDP or ICMP.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct cursor {
	void *pos;
	void *end;
};

struct vlan_hdr {
	__be16 tci;
	__be16 proto;
};

struct stats {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDP_REDIRECT + 1);
	__type(key, __u32);
	__type(value, struct stats);
} verdicts SEC(".maps");

static __always_inline int parse_eth(struct cursor *c)
{
	struct ethhdr *eth = c->pos;
	struct vlan_hdr *vlan;
	__be16 proto;

	if (c->pos + sizeof(*eth) > c->end)
		return -1;
	c->pos = eth + 1;
	proto = eth->h_proto;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		vlan = c->pos;
		if ((void *)(vlan + 1) > c->end)
			return -1;
		proto = vlan->proto;
		c->pos = vlan + 1;
	}
	return proto;
}

static __always_inline int parse_ip(struct cursor *c)
{
	struct iphdr *ip = c->pos;
	int size;

	if ((void *)(ip + 1) > c->end)
		return -1;
	size = ip->ihl * 4;
	if (size < (int)sizeof(*ip) || c->pos + size > c->end)
		return -1;
	c->pos += size;
	return ip->protocol;
}

static __always_inline int parse_ip6(struct cursor *c)
{
	struct ipv6hdr *ip6 = c->pos;

	if ((void *)(ip6 + 1) > c->end)
		return -1;
	c->pos = ip6 + 1;
	return ip6->nexthdr;
}

SEC("xdp")
int header_cursor(struct xdp_md *ctx)
{
	struct cursor c = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	__u64 bytes = c.end - c.pos;
	__u32 verdict = XDP_PASS;
	struct stats *stats;
	int proto = parse_eth(&c);

	if (proto == bpf_htons(ETH_P_IP))
		proto = parse_ip(&c);
	else if (proto == bpf_htons(ETH_P_IPV6))
		proto = parse_ip6(&c);
	else
		goto out;

	if (proto == IPPROTO_UDP) {
		struct udphdr *udp = c.pos;

		if ((void *)(udp + 1) > c.end)
			verdict = XDP_ABORTED;
		else if (bpf_ntohs(udp->dest) < 1024)
			verdict = XDP_DROP;
	} else if (proto == IPPROTO_TCP) {
		struct tcphdr *tcp = c.pos;

		if ((void *)(tcp + 1) > c.end)
			verdict = XDP_ABORTED;
		else if (tcp->dest == bpf_htons(22))
			verdict = XDP_TX;
	} else if (proto == IPPROTO_ICMPV6 || proto == IPPROTO_ICMP) {
		verdict = XDP_DROP;
	} else if (proto < 0) {
		verdict = XDP_ABORTED;
	}
out:
	stats = bpf_map_lookup_elem(&verdicts, &verdict);
	if (!stats)
		return XDP_ABORTED;
	stats->packets++;
	stats->bytes += bytes;
	return verdict;
}

char LICENSE[] SEC("license") = "GPL";
