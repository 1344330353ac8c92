// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Programs of routes (ip route ... encap bpf in|out|xmit): one counts what comes in for a network, one refuses a port, and
// one wraps packets to another network into IP and sends them to the router that knows the way.
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

__u64 came_in = 0, refused = 0, wrapped = 0;
const volatile __u16 closed_port = 23;
const volatile __u32 here = 0, router = 0; // in the order of the host

SEC("lwt_in")
int count(struct __sk_buff *skb)
{
	came_in++;
	return BPF_OK;
}

SEC("lwt_out")
int filter(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data; // packets of routes begin with it
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || ip->protocol != IPPROTO_UDP || udp->dest != bpf_htons(closed_port))
		return BPF_OK;
	refused++;
	return BPF_DROP;
}

SEC("lwt_xmit")
int wrap(struct __sk_buff *skb)
{
	struct iphdr outer = {
		.version = 4,
		.ihl = 5,
		.ttl = 64,
		.protocol = IPPROTO_IPIP,
		.tot_len = bpf_htons(skb->len + sizeof(outer)),
		.saddr = bpf_htonl(here),
		.daddr = bpf_htonl(router),
	};

	if (bpf_lwt_push_encap(skb, BPF_LWT_ENCAP_IP, &outer, sizeof(outer)))
		return BPF_DROP;
	wrapped++;
	return BPF_LWT_REROUTE;
}

char LICENSE[] SEC("license") = "GPL";
