// Sends UDP back to where it came from: swaps MACs, addresses and ports.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 tmp[ETH_ALEN];

	__builtin_memcpy(tmp, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, tmp, ETH_ALEN);
}

SEC("xdp")
int echo_swap(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct {
		struct ethhdr eth;
		struct iphdr ip;
		struct udphdr udp;
	} __attribute__((packed)) *p = data;
	__be32 addr;
	__be16 port;

	if ((void *)(p + 1) > data_end)
		return XDP_PASS;
	if (p->eth.h_proto != bpf_htons(ETH_P_IP) || p->ip.protocol != IPPROTO_UDP || p->ip.ihl != 5)
		return XDP_PASS;
	swap_macs(&p->eth);
	addr = p->ip.saddr;
	p->ip.saddr = p->ip.daddr;
	p->ip.daddr = addr;
	port = p->udp.source;
	p->udp.source = p->udp.dest;
	p->udp.dest = port;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
