// Writes bytes at an index from the packet over zeroes and spilled registers on the stack, then reads whole words back.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

__u64 low, high, tail;

SEC("xdp")
int stack_window(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	__u8 *data = (void *)(long)ctx->data;
	__u64 acc = data_end - (void *)data;
	__u8 window[24] = {}, *p;

	if ((void *)(data + 16) > data_end)
		return XDP_DROP;
	window[3] = acc;
	p = window;
	barrier_var(p);
	p[data[0] & 7] ^= data[14];
	p[4 + (data[6] & 7)] = 0;
	p[(data[12] & 15) + 1] = data[13];
	low = *(__u64 *)p;
	high = *(__u64 *)(p + 8);
	tail = *(__u64 *)(p + 16);
	return (low ^ high ^ tail) & 0xff;
}

char LICENSE[] SEC("license") = "GPL";
