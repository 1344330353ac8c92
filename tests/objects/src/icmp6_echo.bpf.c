// Answers IPv6 pings: addresses swapped, checksum mended, hop limit set.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct icmp6 {
	__u8 type, code;
	__sum16 check;
	__be16 id, seq;
};

SEC("xdp")
int icmp6_echo(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct icmp6 *icmp = (void *)(ip6 + 1);
	struct in6_addr addr;
	__u8 mac[6];
	__u32 sum;

	if ((void *)(icmp + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IPV6))
		return XDP_PASS;
	if (ip6->nexthdr != IPPROTO_ICMPV6 || icmp->type != 128)
		return XDP_DROP;
	addr = ip6->saddr;
	ip6->saddr = ip6->daddr;
	ip6->daddr = addr;
	ip6->hop_limit = 64;
	__builtin_memcpy(mac, eth->h_source, 6);
	__builtin_memcpy(eth->h_source, eth->h_dest, 6);
	__builtin_memcpy(eth->h_dest, mac, 6);
	icmp->type = 129;
	sum = (__u16)~icmp->check + (__u16)~bpf_htons(128 << 8) + bpf_htons(129 << 8);
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	icmp->check = ~sum;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
