// Takes IP-in-IP and GRE off, moving the Ethernet header down.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct gre_hdr {
	__be16 flags;
	__be16 proto;
};

static __always_inline int strip(struct xdp_md *ctx, struct ethhdr *eth, int size)
{
	struct ethhdr copy;
	void *data, *data_end;

	__builtin_memcpy(&copy, eth, sizeof(copy));
	copy.h_proto = bpf_htons(ETH_P_IP);
	if (bpf_xdp_adjust_head(ctx, size))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + sizeof(copy) > data_end)
		return XDP_ABORTED;
	__builtin_memcpy(data, &copy, sizeof(copy));
	return XDP_PASS;
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct gre_hdr *gre;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return XDP_PASS;
	switch (ip->protocol) {
	case IPPROTO_IPIP:
		return strip(ctx, eth, sizeof(*ip));
	case IPPROTO_GRE:
		gre = (void *)(ip + 1);
		if ((void *)(gre + 1) > data_end || gre->flags || gre->proto != bpf_htons(ETH_P_IP))
			return XDP_DROP;
		return strip(ctx, eth, sizeof(*ip) + sizeof(*gre));
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
