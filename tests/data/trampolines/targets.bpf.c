// Programs that others trace and replace, and programs that do. What a tracer saw is in ``seen``, in the order
// of the letters in ``order``. Built like tests/data/bpf: python tools/compile_bpf.py tests/data/trampolines/*.bpf.c
#include "../bpf/common.h"

struct xdp_buff {
	void *data, *data_end;
} __attribute__((preserve_access_index));
struct sk_buff {
	__u32 len;
} __attribute__((preserve_access_index));

static long (*bpf_get_func_arg)(void *ctx, __u32 n, __u64 *value) = (void *)183;
static long (*bpf_get_func_ret)(void *ctx, __u64 *value) = (void *)184;
static long (*bpf_get_func_arg_cnt)(void *ctx) = (void *)185;

__u64 seen[16];

static __noinline int sub_s(__u32 a, __u32 b)
{
	asm volatile("" : "+r"(a), "+r"(b));
	return a * 10 + b;
}

__noinline int sub_g(struct xdp_md *ctx)
{
	int seven = 7;

	// nothing that the compiler could know in the caller
	asm volatile("" : "+r"(seven) : "r"(ctx));
	return seven;
}

// the second argument is a pointer to the stack: no prototype that a tracer could rely on
static __noinline int sub_p(struct xdp_md *ctx, int *p)
{
	asm volatile("" : "+r"(p) : "r"(ctx) : "memory");
	return *p + 1;
}

SEC("xdp")
int xmain(struct xdp_md *ctx)
{
	int one = ctx->rx_queue_index + 1;

	asm volatile("" : : "r"(&one) : "memory");
	return sub_s(ctx->rx_queue_index + 3, ctx->ingress_ifindex + 3) + sub_g(ctx) + (sub_p(ctx, &one) - 1);
}

SEC("tc")
int tmain(struct __sk_buff *skb)
{
	return skb->len ? 2 : 0;
}

SEC("fentry/xmain")
int fentry_xmain(__u64 *ctx)
{
	struct xdp_buff *xdp = (void *)ctx[0];

	seen[0] = xdp->data_end - xdp->data;
	seen[1] = bpf_get_func_arg_cnt(ctx);
	return 0;
}

SEC("fexit/xmain")
int fexit_xmain(__u64 *ctx)
{
	bpf_get_func_ret(ctx, &seen[2]);
	seen[3] = ctx[1];
	return 0;
}

SEC("fentry/sub_s")
int fentry_sub_s(__u64 *ctx)
{
	seen[4] = ctx[0];
	seen[5] = ctx[1];
	return 0;
}

SEC("fexit/sub_s")
int fexit_sub_s(__u64 *ctx)
{
	seen[6] = ctx[2];
	return 0;
}

SEC("fexit/sub_g")
int fexit_sub_g(__u64 *ctx)
{
	seen[7] = ctx[1];
	return 0;
}

SEC("fexit/sub_p")
int fexit_sub_p(__u64 *ctx)
{
	seen[8] = bpf_get_func_arg_cnt(ctx);
	seen[9] = ctx[5];
	return 0;
}

SEC("fentry/tmain")
int fentry_tmain(__u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];

	seen[10] = skb->len;
	return 0;
}

SEC("fexit/tmain")
int fexit_tmain(__u64 *ctx)
{
	seen[11] = ctx[1];
	return 0;
}

SEC("fentry.s/xmain")
int sleepable(__u64 *ctx)
{
	return 0;
}

SEC("fmod_ret/xmain")
int modifies(__u64 *ctx)
{
	return 0;
}

SEC("freplace/sub_g")
int rep(struct xdp_md *ctx)
{
	return 100;
}

SEC("freplace/sub_g")
int rep_other(struct xdp_md *ctx)
{
	return 200;
}

SEC("freplace/xmain")
int rep_main(struct xdp_md *ctx)
{
	return 55;
}

SEC("freplace/sub_s")
int rep_static(struct xdp_md *ctx)
{
	return 1;
}

SEC("freplace/sub_g")
int rep_two(struct xdp_md *ctx, int a)
{
	return a;
}

SEC("freplace/sub_g")
int rep_skb(struct __sk_buff *skb)
{
	return 1;
}

SEC("freplace/sub_g")
int rep_void(void *ctx)
{
	return 1;
}

SEC("freplace/sub_g")
int rep_int(int a)
{
	return a;
}

SEC("license") char LICENSE[] = "GPL";
