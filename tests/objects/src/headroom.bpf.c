// The limits of bpf_xdp_adjust_head: how far it goes in both directions, and what it answers beyond.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

long answers[6];
__u32 lengths[3];

SEC("xdp")
int headroom(struct xdp_md *ctx)
{
	void *data, *data_end;

	answers[0] = bpf_xdp_adjust_head(ctx, -4096);
	answers[1] = bpf_xdp_adjust_head(ctx, -217);
	answers[2] = bpf_xdp_adjust_head(ctx, -216);
	lengths[0] = ctx->data_end - ctx->data;
	answers[3] = bpf_xdp_adjust_head(ctx, 216);
	lengths[1] = ctx->data_end - ctx->data;
	answers[4] = bpf_xdp_adjust_head(ctx, 4000);
	answers[5] = bpf_xdp_adjust_head(ctx, 8);
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	lengths[2] = data_end - data;
	if (data + 14 > data_end)
		return XDP_DROP;
	((__u8 *)data)[0] = 0x77;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
