// Programs that the verifier refuses, one mistake in each.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct pair {
	__u64 a, b;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct pair);
} pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("xdp")
int no_bounds_check(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	return eth->h_proto == bpf_htons(ETH_P_IP) ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int wrong_bounds_check(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)ip > data_end)
		return XDP_DROP;
	return ip->protocol;
}

SEC("xdp")
int no_null_check(struct xdp_md *ctx)
{
	__u32 key = 1;
	struct pair *p = bpf_map_lookup_elem(&pairs, &key);

	return p->a;
}

SEC("xdp")
int value_too_far(struct xdp_md *ctx)
{
	__u32 key = 1;
	struct pair *p = bpf_map_lookup_elem(&pairs, &key);

	if (!p)
		return XDP_PASS;
	return *(volatile __u64 *)(p + 1);
}

SEC("xdp")
int value_index(struct xdp_md *ctx)
{
	__u32 key = 1, index = ctx->rx_queue_index;
	struct pair *p = bpf_map_lookup_elem(&pairs, &key);

	if (!p)
		return XDP_PASS;
	return ((volatile __u8 *)p)[index];
}

SEC("xdp")
int stale_pointer(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > data_end)
		return XDP_DROP;
	if (bpf_xdp_adjust_head(ctx, 4))
		return XDP_DROP;
	return eth->h_proto;
}

SEC("xdp")
int stack_overflow(struct xdp_md *ctx)
{
	__u8 buf[32];
	__u32 index = ctx->rx_queue_index;

	buf[0] = 1;
	asm volatile("" : : "r"(buf) : "memory");
	return *(volatile __u8 *)(buf + 64 + (index & 7));
}

SEC("xdp")
int lost_reservation(struct xdp_md *ctx)
{
	__u64 *e = bpf_ringbuf_reserve(&events, 8, 0);

	if (!e)
		return XDP_DROP;
	*e = ctx->rx_queue_index;
	if (*e == 7)
		return XDP_PASS; // forgets to submit
	bpf_ringbuf_submit(e, 0);
	return XDP_PASS;
}

SEC("xdp")
int submitted_twice(struct xdp_md *ctx)
{
	__u64 *e = bpf_ringbuf_reserve(&events, 8, 0);

	if (!e)
		return XDP_DROP;
	bpf_ringbuf_submit(e, 0);
	*e = 1;
	return XDP_PASS;
}

SEC("xdp")
int writes_context(struct xdp_md *ctx)
{
	*(volatile __u32 *)&ctx->rx_queue_index = 4;
	return XDP_PASS;
}

SEC("xdp")
int reads_past_context(struct xdp_md *ctx)
{
	return *(volatile __u32 *)((void *)ctx + 24);
}

SEC("xdp")
int unbounded_offset(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	__u8 *data = (void *)(long)ctx->data;
	__u64 off;

	if ((void *)(data + 14) > data_end)
		return XDP_DROP;
	off = bpf_get_prandom_u32(); // up to 4 GiB
	if ((void *)(data + off + 1) > data_end)
		return XDP_DROP;
	return data[off];
}

SEC("xdp")
int wrong_helper(struct xdp_md *ctx)
{
	long (*const skb_pull_data)(void *, __u32) = (void *)BPF_FUNC_skb_pull_data;

	return skb_pull_data(ctx, 0);
}

SEC("xdp")
int map_as_memory(struct xdp_md *ctx)
{
	return *(volatile __u64 *)((void *)&pairs + 100000);
}

SEC("xdp")
int pointer_arithmetic(struct xdp_md *ctx)
{
	__u64 p = ctx->data;

	asm volatile("%0 *= 2" : "+r"(p));
	return *(volatile __u8 *)p;
}

SEC("xdp")
int endless_loop(struct xdp_md *ctx)
{
	volatile __u32 i = 0;

	asm volatile("1: goto 1b" ::: "memory");
	return i;
}

char LICENSE[] SEC("license") = "GPL";
