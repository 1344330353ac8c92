// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A service address for the members of a control group: who connects to 10.96.0.10:53 gets one of the servers behind
// it, and getpeername() still shows the service. Nobody of the group talks to port 23.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define SERVICE bpf_htonl(0x0a60000a)
#define EACCES 13

static long (*const set_retval)(int retval) = (void *)187; // bpf_set_retval(), which older headers do not have

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} backends SEC(".maps");

__u64 connects = 0;

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	__u32 next, *backend;

	if (ctx->user_port == bpf_htons(23)) {
		set_retval(-EACCES);
		return 0;
	}
	if (ctx->user_ip4 != SERVICE)
		return 1;
	next = __sync_fetch_and_add(&connects, 1) & 1;
	backend = bpf_map_lookup_elem(&backends, &next);
	if (backend && *backend)
		ctx->user_ip4 = *backend;
	return 1;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	ctx->user_ip4 = SERVICE;
	return 1;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	return skb->len <= 1000;
}

char LICENSE[] SEC("license") = "GPL";
