// A program for packets in fragments: reads and writes across them, cuts and grows their end.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

__u64 sizes[4];
__u8 bytes[32];
long answers[7];

SEC("xdp.frags")
int fragments(struct xdp_md *ctx)
{
	sizes[0] = ctx->data_end - ctx->data;
	sizes[1] = bpf_xdp_get_buff_len(ctx);
	answers[0] = bpf_xdp_load_bytes(ctx, sizes[1] - 16, bytes, 16);
	answers[1] = bpf_xdp_load_bytes(ctx, 3510, bytes + 16, 16);
	answers[2] = bpf_xdp_store_bytes(ctx, 3515, "ABCDEFGHIJ", 10);
	answers[3] = bpf_xdp_adjust_tail(ctx, -20);
	sizes[2] = bpf_xdp_get_buff_len(ctx);
	answers[4] = bpf_xdp_adjust_tail(ctx, 8);
	sizes[3] = bpf_xdp_get_buff_len(ctx);
	answers[5] = bpf_xdp_adjust_head(ctx, 4);
	answers[6] = bpf_xdp_load_bytes(ctx, 4090, bytes, 3);
	return (answers[3] < 0) | (answers[4] < 0) << 1 | (answers[5] < 0) << 2;
}

char LICENSE[] SEC("license") = "GPL";
