// Puts a record in front of the packet for whoever comes next, and checks the limits of bpf_xdp_adjust_meta.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct meta {
	__u32 mark;
	__u16 proto;
	__u16 len;
};

long odd_error, long_error, twice_error;

SEC("xdp")
int metadata(struct xdp_md *ctx)
{
	void *data, *data_end;
	struct meta *meta;
	struct ethhdr *eth;

	odd_error = bpf_xdp_adjust_meta(ctx, -3);
	long_error = bpf_xdp_adjust_meta(ctx, -512);
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > data)
		return XDP_ABORTED;
	eth = data;
	if ((void *)(eth + 1) > data_end)
		return XDP_ABORTED;
	meta->mark = 0xcafe0000 | eth->h_dest[5];
	meta->proto = bpf_ntohs(eth->h_proto);
	meta->len = data_end - data;
	if (eth->h_proto == bpf_htons(ETH_P_ARP))
		twice_error = bpf_xdp_adjust_meta(ctx, 16);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
