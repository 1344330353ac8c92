// Moves both ends of the packet to their limits and beyond; keeps what each call answered.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

long head[8], tail[8];
__u32 turn;

SEC("xdp")
int packet_limits(struct xdp_md *ctx)
{
	__u32 i = turn++ & 7;
	int size = ctx->data_end - ctx->data, by = 0;
	__u64 *first;

	switch (i) {
	case 0: by = -size + ETH_HLEN; break;
	case 1: by = -size + ETH_HLEN - 1; break;
	case 2: by = 200; break;
	case 3: by = 4000; break;
	case 4: by = 3520 - size; break;
	case 5: by = 3521 - size; break;
	case 6: by = -1; break;
	}
	tail[i] = bpf_xdp_adjust_tail(ctx, by);
	size = ctx->data_end - ctx->data;
	switch (i) {
	case 0: by = -216; break;
	case 1: by = -217; break;
	case 2: by = size - ETH_HLEN; break;
	case 3: by = size - ETH_HLEN + 1; break;
	case 4: by = -256; break;
	case 5: by = 1; break;
	case 6: by = -8; break;
	}
	head[i] = bpf_xdp_adjust_head(ctx, by);
	first = (void *)(long)ctx->data;
	if ((void *)(first + 1) <= (void *)(long)ctx->data_end)
		*first = i;
	return (ctx->data_end - ctx->data) & 7;
}

char LICENSE[] SEC("license") = "GPL";
