// Functions: static, global, hidden, weak, callbacks; two programs that share some; several in one section.
#include "common.h"

__u64 total;

static __noinline int add(int a, int b)
{
	total += a;
	return a + b;
}

static __noinline int twice(int a)
{
	return add(a, a) ^ 3;
}

__noinline int global_fn(int a)
{
	return twice(a) + 1;
}

__hidden __noinline int hidden_fn(int a)
{
	return add(a, 5) * 7;
}

__weak __noinline int weak_fn(int a)
{
	total ^= a;
	return a & 0xff;
}

static long step(__u32 index, void *ctx)
{
	*(__u64 *)ctx += add(index, 1);
	return 0;
}

static long each(void *map, __u32 *key, __u64 *value, void *ctx)
{
	total += *value;
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

SEC("xdp")
int first(struct xdp_md *ctx)
{
	return global_fn(ctx->rx_queue_index) + weak_fn(3) > 100 ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int second(struct xdp_md *ctx)
{
	return hidden_fn(ctx->ingress_ifindex) + twice(2) > 50 ? XDP_TX : XDP_PASS;
}

SEC("xdp")
int third(struct xdp_md *ctx)
{
	__u64 sum = 0;

	bpf_loop(4, step, &sum, 0);
	bpf_for_each_map_elem(&counts, each, NULL, 0);
	return sum > 10 ? XDP_DROP : XDP_PASS;
}

SEC("?tc")
int optional(struct __sk_buff *skb)
{
	return weak_fn(skb->len);
}

SEC("license") char LICENSE[] = "GPL";
