// Answers ARP requests for the addresses in a map.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct arp {
	__be16 htype, ptype;
	__u8 hlen, plen;
	__be16 op;
	__u8 sha[6];
	__be32 spa;
	__u8 tha[6];
	__be32 tpa;
} __attribute__((packed));

struct mac {
	__u8 addr[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __be32);
	__type(value, struct mac);
} owned SEC(".maps");

SEC("xdp")
int arp_reply(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct arp *arp = (void *)(eth + 1);
	struct mac *mac;
	__be32 target;

	if ((void *)(arp + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_ARP))
		return XDP_PASS;
	if (arp->op != bpf_htons(1) || arp->plen != 4)
		return XDP_DROP;
	target = arp->tpa;
	mac = bpf_map_lookup_elem(&owned, &target);
	if (!mac)
		return XDP_PASS;
	__builtin_memcpy(eth->h_dest, arp->sha, 6);
	__builtin_memcpy(eth->h_source, mac->addr, 6);
	arp->op = bpf_htons(2);
	__builtin_memcpy(arp->tha, arp->sha, 6);
	arp->tpa = arp->spa;
	__builtin_memcpy(arp->sha, mac->addr, 6);
	arp->spa = target;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
