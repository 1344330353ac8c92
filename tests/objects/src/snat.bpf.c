// Source NAT with ports handed out in order; checksums are mended by what changed.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct end {
	__be32 addr;
	__be16 port;
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, struct end);
	__type(value, struct end);
} outside SEC(".maps");

__u32 handed_out;

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

SEC("xdp")
int snat(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct end in = {}, new = {}, *out;
	__be16 *ports;
	__u16 *check;
	int err;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl < 5)
		return XDP_PASS;
	ports = (void *)ip + ip->ihl * 4;
	if ((void *)(ports + 2) > data_end)
		return XDP_DROP;
	if (ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = (void *)ports;

		if ((void *)(tcp + 1) > data_end)
			return XDP_DROP;
		check = &tcp->check;
	} else if (ip->protocol == IPPROTO_UDP) {
		struct udphdr *udp = (void *)ports;

		if ((void *)(udp + 1) > data_end)
			return XDP_DROP;
		check = &udp->check;
	} else {
		return XDP_PASS;
	}
	in.addr = ip->saddr;
	in.port = ports[0];
	out = bpf_map_lookup_elem(&outside, &in);
	if (!out) {
		new.addr = bpf_htonl(0xc6336401);
		new.port = bpf_htons(10000 + handed_out);
		err = bpf_map_update_elem(&outside, &in, &new, BPF_NOEXIST);
		if (err)
			return -err; // E2BIG once all places are taken
		handed_out++;
		out = &new;
	}

	__be32 from[2] = { in.addr, in.port }, to[2] = { out->addr, out->port };

	ip->check = fold(bpf_csum_diff(from, 4, to, 4, (__u16)~ip->check));
	if (*check)
		*check = fold(bpf_csum_diff(from, 8, to, 8, (__u16)~*check));
	ip->saddr = out->addr;
	ports[0] = out->port;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
