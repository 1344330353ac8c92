// A program that tail-calls itself, an index that is out of range, and a tail call from a subprogram.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int tail_limits(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, int(void *));
} table SEC(".maps") = {
	.values = {
		[1] = (void *)&tail_limits,
	},
};

__u64 runs, misses, after_subprog;

static __noinline int hop(struct xdp_md *ctx, __u32 index)
{
	bpf_tail_call(ctx, &table, index);
	misses++;
	return index + 100;
}

SEC("xdp")
int tail_limits(struct xdp_md *ctx)
{
	__u32 len = ctx->data_end - ctx->data;

	runs++;
	if (len < 64)
		return hop(ctx, 3);	// empty slot
	if (len < 100)
		return hop(ctx, 400);	// past the end
	if (len < 200) {
		int answer = hop(ctx, 1); // until the limit; a callee's answer comes back here

		after_subprog++;
		return answer;
	}
	bpf_tail_call(ctx, &table, 1);
	misses++;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
