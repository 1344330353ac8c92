// Destination NAT: a table of virtual addresses and ports, checksums mended with bpf_csum_diff.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct vip {
	__be32 addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

struct real {
	__be32 addr;
	__be16 port;
	__u8 mac[6];
	__u64 hits;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, struct vip);
	__type(value, struct real);
} vips SEC(".maps");

static __always_inline __u16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

SEC("xdp")
int dnat(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct vip key = {};
	struct real *real;
	__be32 old_addr;
	__be16 old_port, *port;
	__sum16 *check;
	__s64 diff;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return XDP_PASS;
	if (ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = (void *)(ip + 1);

		if ((void *)(tcp + 1) > data_end)
			return XDP_DROP;
		port = &tcp->dest;
		check = &tcp->check;
	} else if (ip->protocol == IPPROTO_UDP) {
		struct udphdr *udp = (void *)(ip + 1);

		if ((void *)(udp + 1) > data_end)
			return XDP_DROP;
		port = &udp->dest;
		check = &udp->check;
	} else {
		return XDP_PASS;
	}
	key.addr = ip->daddr;
	key.port = *port;
	key.proto = ip->protocol;
	real = bpf_map_lookup_elem(&vips, &key);
	if (!real)
		return XDP_PASS;
	__sync_fetch_and_add(&real->hits, 1);

	old_addr = ip->daddr;
	old_port = *port;
	ip->daddr = real->addr;
	*port = real->port;
	__builtin_memcpy(eth->h_dest, real->mac, ETH_ALEN);

	diff = bpf_csum_diff(&old_addr, sizeof(old_addr), &real->addr, sizeof(real->addr), ~((__u32)ip->check) & 0xffff);
	ip->check = csum_fold(diff);
	if (*check || ip->protocol == IPPROTO_TCP) {
		__u32 from[2] = { old_addr, old_port };
		__u32 to[2] = { real->addr, real->port };

		diff = bpf_csum_diff(from, sizeof(from), to, sizeof(to), ~((__u32)*check) & 0xffff);
		*check = csum_fold(diff);
	}
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
