// Port knocking: a state machine per source; three ports in the right order open the door.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum state { CLOSED, FIRST, SECOND, OPEN };

const volatile __u16 knocks[3] = { 7000, 8000, 9000 };

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __be32);
	__type(value, enum state);
} clients SEC(".maps");

SEC("xdp")
int port_knock(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	enum state *known, state = CLOSED;
	__u16 port;

	if ((void *)(tcp + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	port = bpf_ntohs(tcp->dest);
	known = bpf_map_lookup_elem(&clients, &ip->saddr);
	if (known)
		state = *known;
	if (state == OPEN)
		return port == 22 ? XDP_PASS : XDP_DROP;
	if (port == knocks[state & 3 ? (state == FIRST ? 1 : 2) : 0])
		state++;
	else
		state = CLOSED;
	bpf_map_update_elem(&clients, &ip->saddr, &state, BPF_ANY);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
