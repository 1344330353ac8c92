// Walks over IPv6 extension headers in a real loop (not unrolled) and reports the last next-header value.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} final_header SEC(".maps");

SEC("xdp")
int ipv6_ext(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct ipv6hdr *ip6 = data + sizeof(*eth);
	__u32 key, count = 0, *seen;
	__u64 off = sizeof(*eth) + sizeof(*ip6);
	__u8 next;
	int i;

	if ((void *)(ip6 + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IPV6))
		return XDP_PASS;
	next = ip6->nexthdr;
#pragma clang loop unroll(disable)
	for (i = 0; i < 6; i++) {
		struct ipv6_opt_hdr *ext;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT)
			break;
		if (off > 512)
			return XDP_ABORTED;
		ext = data + off;
		if ((void *)(ext + 1) > data_end)
			return XDP_ABORTED;
		off += next == IPPROTO_FRAGMENT ? 8 : (ext->hdrlen + 1) * 8;
		next = ext->nexthdr;
		count++;
	}
	if (i == 6)
		return XDP_DROP;
	key = next;
	seen = bpf_map_lookup_elem(&final_header, &key);
	if (seen)
		count += *seen;
	bpf_map_update_elem(&final_header, &key, &count, BPF_ANY);
	return next == IPPROTO_UDP ? XDP_TX : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
