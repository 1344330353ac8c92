// Uses random numbers and the clock in ways whose result does not depend on them.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 out_of_range, backwards;

SEC("xdp")
int random_sampling(struct xdp_md *ctx)
{
	__u32 pick = bpf_get_prandom_u32() % 10;
	__u64 before = bpf_ktime_get_ns(), after;

	if (pick > 9)
		out_of_range++;
	after = bpf_ktime_get_ns();
	if (after < before)
		backwards++;
	return (bpf_get_prandom_u32() & 0x30) == 0x40 ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
