// Answers UDP with an ICMP port unreachable: grows the packet in front, cuts it behind.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct unreachable {
	__u8 type, code;
	__u16 check;
	__u32 unused;
};

static __always_inline __u16 checksum(void *from, __u32 size)
{
	__u32 sum = bpf_csum_diff(0, 0, from, size, 0);

	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

SEC("xdp")
int port_unreachable(struct xdp_md *ctx)
{
	const int quoted = sizeof(struct iphdr) + 8, added = sizeof(struct iphdr) + sizeof(struct unreachable);
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, old_eth;
	struct iphdr *ip = (void *)(eth + 1), old_ip;
	struct unreachable *icmp;
	int excess;

	if (data + ETH_HLEN + quoted > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	old_eth = *eth;
	old_ip = *ip;
	if (bpf_xdp_adjust_head(ctx, -added))
		return XDP_ABORTED;
	excess = (int)(ctx->data_end - ctx->data) - (ETH_HLEN + added + quoted);
	if (excess > 0 && bpf_xdp_adjust_tail(ctx, -excess))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + ETH_HLEN + added + quoted > data_end)
		return XDP_ABORTED;
	eth = data;
	__builtin_memcpy(eth->h_dest, old_eth.h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, old_eth.h_dest, ETH_ALEN);
	eth->h_proto = old_eth.h_proto;
	ip = (void *)(eth + 1);
	*ip = (struct iphdr){ .version = 4, .ihl = 5, .tos = 0xc0, .ttl = 64, .protocol = IPPROTO_ICMP };
	ip->tot_len = bpf_htons(added + quoted);
	ip->saddr = old_ip.daddr;
	ip->daddr = old_ip.saddr;
	ip->check = checksum(ip, sizeof(*ip));
	icmp = (void *)(ip + 1);
	*icmp = (struct unreachable){ .type = 3, .code = 3 };
	icmp->check = checksum(icmp, sizeof(*icmp) + quoted);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
