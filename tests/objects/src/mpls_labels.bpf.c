// Removes MPLS labels up to the bottom of the stack; gives other packets two labels.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_MPLS 0x8847
#define BOTTOM 0x100

__u64 depths[8];

static __attribute__((noinline)) int push_labels(struct xdp_md *ctx)
{
	void *data, *data_end;
	__be32 *label;

	if (bpf_xdp_adjust_head(ctx, -8))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + 22 > data_end)
		return XDP_DROP;
	__builtin_memmove(data, data + 8, 2 * ETH_ALEN);
	*(__be16 *)(data + 12) = bpf_htons(ETH_P_MPLS);
	label = data + 14;
	label[0] = bpf_htonl(16 << 12 | 64);
	label[1] = bpf_htonl(17 << 12 | BOTTOM | 63);
	return XDP_TX;
}

SEC("xdp")
int mpls_labels(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	__be32 *label = data + ETH_HLEN;
	__u8 macs[2 * ETH_ALEN];
	int labels = 0;

	if (data + ETH_HLEN > data_end)
		return XDP_DROP;
	if (*(__be16 *)(data + 12) != bpf_htons(ETH_P_MPLS))
		return push_labels(ctx);
	for (;;) {
		if ((void *)(label + 1) > data_end || labels == 7)
			return XDP_DROP;
		labels++;
		if (*label++ & bpf_htonl(BOTTOM))
			break;
	}
	depths[labels & 7]++;
	__builtin_memcpy(macs, data, sizeof(macs));
	if (bpf_xdp_adjust_head(ctx, labels * 4))
		return XDP_DROP;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + 15 > data_end)
		return XDP_DROP;
	__builtin_memcpy(data, macs, sizeof(macs));
	*(__be16 *)(data + 12) = *(__u8 *)(data + 14) >> 4 == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
