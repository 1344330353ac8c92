// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A patch panel: whatever comes in at one port goes out at the other, unchanged. The devmap says which port is
// behind which: ports[ifindex of the receiving device] = ifindex of the sending device.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

// Frames forwarded, by the ifindex at which they came in; one counter for each CPU, so nothing needs to be atomic.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} forwarded SEC(".maps");

SEC("xdp")
int patch(struct xdp_md *ctx)
{
	__u32 port = ctx->ingress_ifindex;
	__u64 *frames;
	long verdict;

	// the lowest two bits of the flags are the verdict for a port that is not in the map
	verdict = bpf_redirect_map(&ports, port, XDP_ABORTED);
	if (verdict != XDP_REDIRECT)
		return verdict;
	frames = bpf_map_lookup_elem(&forwarded, &port);
	if (frames)
		(*frames)++;
	return XDP_REDIRECT;
}

char LICENSE[] SEC("license") = "GPL";
