// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// What the flow of a packet is, said by a program: one in a VXLAN tunnel belongs to the flow inside of it, where the
// kernel sees but the two ends of the tunnel. Everything else is left to the kernel.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define VXLAN_PORT 4789

struct vxlan {
	__be32 flags;
	__be32 vni;
};

// the headers from the network header of the outer packet on
struct tunnelled {
	struct iphdr outer;
	struct udphdr udp;
	struct vxlan vxlan;
	struct ethhdr eth;
	struct iphdr ip;
	__be16 ports[2];
} __attribute__((packed));

SEC("flow_dissector")
int inner_flow(struct __sk_buff *skb)
{
	struct bpf_flow_keys *keys = skb->flow_keys;
	struct tunnelled packet;

	// `nhoff` is where the kernel has got to: the network header may be behind the one of Ethernet, or the first one
	if (bpf_skb_load_bytes(skb, keys->nhoff, &packet, sizeof(packet)))
		return BPF_FLOW_DISSECTOR_CONTINUE;
	if (packet.outer.version != 4 || packet.outer.ihl != 5 || packet.outer.protocol != IPPROTO_UDP ||
	    packet.udp.dest != bpf_htons(VXLAN_PORT))
		return BPF_FLOW_DISSECTOR_CONTINUE;
	if (packet.eth.h_proto != bpf_htons(ETH_P_IP) || packet.ip.ihl != 5)
		return BPF_FLOW_DISSECTOR_CONTINUE;

	keys->is_encap = 1;
	keys->n_proto = bpf_htons(ETH_P_IP);
	keys->addr_proto = ETH_P_IP;
	keys->ip_proto = packet.ip.protocol;
	keys->ipv4_src = packet.ip.saddr;
	keys->ipv4_dst = packet.ip.daddr;
	keys->sport = packet.ports[0];
	keys->dport = packet.ports[1];
	keys->thoff = keys->nhoff + offsetof(struct tunnelled, ports);
	return BPF_OK;
}

// On which CPU packets arrive: a program of tc that comes later and lets everything pass.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} arrived SEC(".maps");

SEC("tcx/ingress")
int count_cpus(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&arrived, &zero);

	if (count && skb->protocol == bpf_htons(ETH_P_IP))
		*count += 1;
	return TC_ACT_UNSPEC; // go on
}

char LICENSE[] SEC("license") = "GPL";
