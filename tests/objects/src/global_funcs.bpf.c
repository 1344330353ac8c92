// Global functions: verified on their own, called with a context, with scalars and with a pointer to memory.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct point {
	int x;
	int y;
	__u64 sum;
};

__u32 calls;

__noinline int frame_len(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data;
}

__noinline int combine(int a, int b, __u64 c)
{
	calls++;
	return (a << 4 ^ b) + (int)(c >> 3);
}

__noinline int fill(struct point *p, int x)
{
	if (!p)
		return -1;
	p->x = x;
	p->y = -x;
	p->sum += x * 3;
	return 0;
}

__noinline int ether_type(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > data_end)
		return 0;
	return bpf_ntohs(eth->h_proto);
}

SEC("xdp")
int global_funcs(struct xdp_md *ctx)
{
	struct point p = { .sum = 1000 };
	int len = frame_len(ctx);

	if (fill(&p, len) || fill(&p, ether_type(ctx)))
		return XDP_ABORTED;
	return combine(p.x, p.y, p.sum) & 0x7fff;
}

char LICENSE[] SEC("license") = "GPL";
