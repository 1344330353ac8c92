// A call tree five deep, with stack space in every frame, and the same function called from two places.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static __noinline __u32 leaf(const __u8 *bytes, __u32 n)
{
	__u32 sum = n;

	for (int i = 0; i < 8; i++)
		sum = sum * 31 + bytes[i];
	return sum;
}

static __noinline __u32 level3(__u32 seed)
{
	__u8 buf[8];

	for (int i = 0; i < 8; i++)
		buf[i] = seed >> i;
	return leaf(buf, seed & 7);
}

static __noinline __u32 level2(__u32 a, __u32 b)
{
	__u8 buf[8];

	for (int i = 0; i < 8; i++)
		buf[i] = a + i * b;
	return leaf(buf, 1) ^ level3(a * b);
}

static __noinline __u32 level1(struct xdp_md *ctx)
{
	__u32 len = ctx->data_end - ctx->data;

	return level2(len, ctx->rx_queue_index + 3) + level3(len);
}

__u32 result;

SEC("xdp")
int nested_calls(struct xdp_md *ctx)
{
	result = level1(ctx) + level3(7);
	return result & 0xffff;
}

char LICENSE[] SEC("license") = "GPL";
