// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// What a container network does with the netkit pair of a pod: the primary end says who may reach the pod, the peer end
// what the pod may answer. Both programs are attached by the primary end, where the pod cannot reach them.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// enum netkit_action of linux/if_link.h, which older headers do not have
#define NETKIT_NEXT -1
#define NETKIT_PASS 0
#define NETKIT_DROP 2

__u64 to_pod = 0, refused = 0, from_pod = 0;
// the one port that is open
const volatile __u16 open_port = 53;

SEC("netkit/primary")
int admit(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN; // pairs of mode l3 have this header, too, all of it zeroes
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || ip->version != 4 || ip->ihl != 5)
		return NETKIT_DROP;
	if (ip->protocol == IPPROTO_UDP && udp->dest != bpf_htons(open_port)) {
		__sync_fetch_and_add(&refused, 1);
		return NETKIT_DROP;
	}
	__sync_fetch_and_add(&to_pod, 1);
	return NETKIT_NEXT;
}

SEC("netkit/peer")
int answer(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&from_pod, 1);
	return NETKIT_PASS;
}

char LICENSE[] SEC("license") = "GPL";
