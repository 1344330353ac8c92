// Up to four VLAN tags, the loop unrolled by the compiler; counts frames by depth of tags.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct vlan_hdr {
	__be16 tci;
	__be16 proto;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} depth_count SEC(".maps");

static __always_inline int is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

SEC("xdp")
int vlan_unroll(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct vlan_hdr *vlan;
	__u32 depth = 0;
	__u64 *count;
	__be16 proto;

	if ((void *)(eth + 1) > data_end)
		return XDP_DROP;
	proto = eth->h_proto;
	vlan = (void *)(eth + 1);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (!is_vlan(proto))
			break;
		if ((void *)(vlan + 1) > data_end)
			return XDP_ABORTED;
		proto = vlan->proto;
		vlan++;
		depth++;
	}
	count = bpf_map_lookup_elem(&depth_count, &depth);
	if (count)
		*count += 1;
	return is_vlan(proto) ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
