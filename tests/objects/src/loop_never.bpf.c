// A loop of no turns: its callback is never called, so the verifier removes it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static long body(__u32 index, __u64 *sum)
{
	*sum += index;
	return 0;
}

SEC("xdp")
int loop_never(struct xdp_md *ctx)
{
	__u64 sum = 1;
	long turns = bpf_loop(0, body, &sum, 0);

	return sum + turns + ctx->rx_queue_index;
}

char LICENSE[] SEC("license") = "GPL";
