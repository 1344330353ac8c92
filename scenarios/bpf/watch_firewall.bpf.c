// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Watching another BPF program: fentry sees each packet before the firewall (firewall.bpf.c) does, fexit its verdict.
// The context of an XDP program is a struct xdp_buff for the kernel, and that is what tracers get.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct xdp_buff {
	void *data;
	void *data_end;
} KERNEL_STRUCT;

struct seen {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 5);
	__type(key, __u32);
	__type(value, struct seen);
} by_verdict SEC(".maps");

__u64 entered = 0;
__u64 longest = 0;

SEC("fentry/firewall")
int BPF_PROG(packet_comes, struct xdp_buff *xdp)
{
	__u64 length = xdp->data_end - xdp->data;

	entered++;
	if (length > longest)
		longest = length;
	return 0;
}

SEC("fexit/firewall")
int BPF_PROG(packet_judged, struct xdp_buff *xdp, int verdict)
{
	__u32 key = verdict;
	struct seen *seen = bpf_map_lookup_elem(&by_verdict, &key);

	if (seen) {
		seen->packets++;
		seen->bytes += xdp->data_end - xdp->data;
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
