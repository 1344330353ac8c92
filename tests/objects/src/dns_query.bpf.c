// Parses the question of a DNS query: lower-cases the name, counts labels, looks the name up in a blocklist.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NAME 16

struct dns_hdr {
	__be16 id, flags, questions, answers, authority, additional;
};

struct name {
	char text[NAME];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32);
	__type(key, struct name);
	__type(value, __u32);
} blocked SEC(".maps");

__u32 labels;

SEC("xdp")
int dns_query(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	struct dns_hdr *dns = (void *)(udp + 1);
	struct name name = {};
	__u32 *hits, count = 0;
	__u8 *p, next_label = 0;
	int i;

	if ((void *)(dns + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return XDP_PASS;
	if (ip->protocol != IPPROTO_UDP || udp->dest != bpf_htons(53) || dns->questions != bpf_htons(1))
		return XDP_PASS;
	p = (void *)(dns + 1);
	for (i = 0; i < NAME - 1; i++) {
		__u8 c;

		if ((void *)(p + i + 1) > data_end)
			return XDP_ABORTED;
		c = p[i];
		if (i == next_label) {
			if (c == 0)
				break;
			next_label = i + c + 1;
			count++;
			c = '.';
		} else if (c >= 'A' && c <= 'Z') {
			c += 'a' - 'A';
		}
		name.text[i] = c;
	}
	labels = count;
	hits = bpf_map_lookup_elem(&blocked, &name);
	if (!hits)
		return XDP_PASS;
	*hits += 1;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
