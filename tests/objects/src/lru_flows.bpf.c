// A flow table: five-tuple to packets, bytes and TCP flags seen, in an LRU hash.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct flow_key {
	__be32 saddr, daddr;
	__be16 sport, dport;
	__u8 proto;
	__u8 pad[3];
};

struct flow {
	__u64 packets;
	__u64 bytes;
	__u8 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

SEC("xdp")
int lru_flows(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct flow_key key = {};
	struct flow *flow, fresh = {};
	__u8 flags = 0;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return XDP_PASS;
	key.saddr = ip->saddr;
	key.daddr = ip->daddr;
	key.proto = ip->protocol;
	if (ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = (void *)(ip + 1);

		if ((void *)(tcp + 1) > data_end)
			return XDP_DROP;
		key.sport = tcp->source;
		key.dport = tcp->dest;
		flags = ((__u8 *)tcp)[13];
	} else if (ip->protocol == IPPROTO_UDP) {
		struct udphdr *udp = (void *)(ip + 1);

		if ((void *)(udp + 1) > data_end)
			return XDP_DROP;
		key.sport = udp->source;
		key.dport = udp->dest;
	}
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow) {
		flow->packets++;
		flow->bytes += data_end - data;
		flow->flags |= flags;
		if (flow->flags & 1) // FIN
			bpf_map_delete_elem(&flows, &key);
		return XDP_TX;
	}
	fresh.packets = 1;
	fresh.bytes = data_end - data;
	fresh.flags = flags;
	return bpf_map_update_elem(&flows, &key, &fresh, BPF_NOEXIST) ? XDP_ABORTED : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
