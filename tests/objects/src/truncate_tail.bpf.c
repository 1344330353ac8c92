// Cuts long packets to 100 bytes, makes short ones longer, and reports what bpf_xdp_adjust_tail said.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SNAP 100

long last_error = 0;
__u64 cut = 0, grown = 0;

SEC("xdp")
int truncate_tail(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	int len = data_end - data;

	if (len > SNAP) {
		last_error = bpf_xdp_adjust_tail(ctx, SNAP - len);
		cut++;
	} else if (len < 60) {
		last_error = bpf_xdp_adjust_tail(ctx, 60 - len);
		grown++;
	} else if (len == 60) {
		last_error = bpf_xdp_adjust_tail(ctx, -55); // less than an Ethernet header would remain
	} else if (len == 64) {
		last_error = bpf_xdp_adjust_tail(ctx, 8192); // no room
	} else {
		return XDP_PASS;
	}
	if (last_error)
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + 60 > data_end)
		return XDP_DROP;
	*((__u8 *)data + 59) = 0xee;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
