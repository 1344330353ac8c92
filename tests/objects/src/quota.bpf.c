// Lets each source send a number of packets, then drops; the number is in a map that user space can change.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define DEFAULT_QUOTA 2

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, __s64);
} left SEC(".maps");

SEC("xdp")
int quota(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	__s64 *tokens, fresh = DEFAULT_QUOTA;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	tokens = bpf_map_lookup_elem(&left, &ip->saddr);
	if (!tokens) {
		if (bpf_map_update_elem(&left, &ip->saddr, &fresh, BPF_NOEXIST))
			return XDP_ABORTED;
		tokens = bpf_map_lookup_elem(&left, &ip->saddr);
		if (!tokens)
			return XDP_ABORTED;
	}
	if (*tokens <= 0)
		return XDP_DROP;
	*tokens -= 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
