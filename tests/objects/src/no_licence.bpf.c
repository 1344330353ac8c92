// A helper that is for GPL-compatible programs only, in a program that is not.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int no_licence(struct xdp_md *ctx)
{
	bpf_printk("hello");
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Proprietary";
