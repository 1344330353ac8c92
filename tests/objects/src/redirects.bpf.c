// Redirects: to a fixed device, through an empty devmap with a fall-back verdict, and with flags that are refused.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

long answers[4];

SEC("xdp")
int redirects(struct xdp_md *ctx)
{
	answers[0] = bpf_redirect_map(&ports, 0, XDP_DROP);
	answers[1] = bpf_redirect_map(&ports, 9, XDP_PASS);
	answers[2] = bpf_redirect_map(&ports, 1, 64);
	answers[3] = bpf_redirect(1, 1);
	return answers[0] + answers[1];
}

char LICENSE[] SEC("license") = "GPL";
