// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Programs of tcx that change packets: VLAN tags, addresses with their checksums, tunnels, routes.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HELPER(number, result, name, ...) static result (*const name)(__VA_ARGS__) = (void *)number

HELPER(9, long, bpf_skb_store_bytes, struct __sk_buff *, __u32, const void *, __u32, __u64);
HELPER(10, long, bpf_l3_csum_replace, struct __sk_buff *, __u32, __u64, __u64, __u64);
HELPER(11, long, bpf_l4_csum_replace, struct __sk_buff *, __u32, __u64, __u64, __u64);
HELPER(18, long, bpf_skb_vlan_push, struct __sk_buff *, __be16, __u16);
HELPER(19, long, bpf_skb_vlan_pop, struct __sk_buff *);
HELPER(20, long, bpf_skb_get_tunnel_key, struct __sk_buff *, struct bpf_tunnel_key *, __u32, __u64);
HELPER(21, long, bpf_skb_set_tunnel_key, struct __sk_buff *, struct bpf_tunnel_key *, __u32, __u64);
HELPER(38, long, bpf_skb_change_tail, struct __sk_buff *, __u32, __u64);
HELPER(48, long, bpf_set_hash, struct __sk_buff *, __u32);
HELPER(50, long, bpf_skb_adjust_room, struct __sk_buff *, __s32, __u32, __u64);
HELPER(69, long, bpf_fib_lookup, void *, struct bpf_fib_lookup *, int, __u32);
HELPER(163, long, bpf_check_mtu, void *, __u32, __u32 *, __s32, __u64);

#define TCX_NEXT -1
#define TCX_PASS 0
#define TCX_DROP 2
#define TCX_REDIRECT 7

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

volatile const __u32 out_ifindex = 0;

static __always_inline void count(__u32 key, __u64 by)
{
	__u64 *seen = bpf_map_lookup_elem(&counts, &key);

	if (seen)
		__sync_fetch_and_add(seen, by);
	else
		bpf_map_update_elem(&counts, &key, &by, 0);
}

// Tags pushed, pushed twice, popped, by the length of the packet; what is seen of them is counted.
SEC("tcx/ingress")
int vlan(struct __sk_buff *skb)
{
	int done = 0;

	count(skb->vlan_present ? 1000 + (skb->vlan_tci & 0xfff) % 16 : 0, 1);
	count(1, skb->len);
	count(2, skb->wire_len);
	count(3, skb->protocol);
	switch (skb->len % 6) {
	case 0:
		done = bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 100 + skb->len % 50);
		break;
	case 1:
		done = bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021AD), 7 | 3 << 13);
		done = done ?: bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 9);
		break;
	case 2:
		done = bpf_skb_vlan_pop(skb);
		break;
	case 3:
		done = bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 77);
		done = done ?: bpf_skb_vlan_pop(skb);
		break;
	case 4:
		done = bpf_skb_change_tail(skb, skb->len > 80 ? skb->len - 20 : skb->len + 20, 0);
		break;
	}
	count(10 + (__u32)-done, 1);
	count(4, skb->len);
	return bpf_redirect(out_ifindex, 0);
}

// Another destination address and port, with bpf_l3_csum_replace and bpf_l4_csum_replace.
SEC("tcx/ingress")
int nat(struct __sk_buff *skb)
{
	__be32 from, to = bpf_htonl(0x0a000207);
	__be16 port, new_port = bpf_htons(9999);
	__u8 protocol, ihl;
	int l4, check, flags = BPF_F_PSEUDO_HDR;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TCX_NEXT;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ihl, 1) || bpf_skb_load_bytes(skb, ETH_HLEN + 9, &protocol, 1))
		return TCX_DROP;
	l4 = ETH_HLEN + (ihl & 15) * 4;
	if (protocol == 17) {
		check = l4 + 6;
		flags |= BPF_F_MARK_MANGLED_0;
	} else if (protocol == 6) {
		check = l4 + 16;
	} else {
		count(1, 1);
		return TCX_NEXT;
	}
	if (bpf_skb_load_bytes(skb, ETH_HLEN + 16, &from, 4) || bpf_skb_load_bytes(skb, l4 + 2, &port, 2))
		return TCX_DROP;
	count(2, 1);
	if (bpf_l4_csum_replace(skb, check, from, to, flags | 4))
		count(3, 1);
	if (bpf_l4_csum_replace(skb, check, port, new_port, (flags & ~BPF_F_PSEUDO_HDR) | 2))
		count(4, 1);
	if (bpf_l3_csum_replace(skb, ETH_HLEN + 10, from, to, 4))
		count(5, 1);
	if (bpf_skb_store_bytes(skb, ETH_HLEN + 16, &to, 4, 0))
		count(6, 1);
	if (bpf_skb_store_bytes(skb, l4 + 2, &new_port, 2, BPF_F_RECOMPUTE_CSUM))
		count(7, 1);
	return bpf_redirect(out_ifindex, 0);
}

// An IPv4 header in front of the IPv4 packet, by bpf_skb_adjust_room, with a checksum by bpf_csum_diff.
SEC("tcx/ingress")
int encap(struct __sk_buff *skb)
{
	struct iphdr outer = {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = 4, .saddr = bpf_htonl(0x0a000101), .daddr = bpf_htonl(0x0a000209),
	};
	__u64 flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_FIXED_GSO;
	__s64 sum;
	int done;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TCX_NEXT;
	outer.tot_len = bpf_htons(skb->len - ETH_HLEN + sizeof(outer));
	done = bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, flags);
	count(20 + (__u32)-done, 1);
	if (done)
		return TCX_DROP;
	sum = bpf_csum_diff(0, 0, (__be32 *)&outer, sizeof(outer), 0);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	outer.check = ~sum;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0))
		return TCX_DROP;
	return bpf_redirect(out_ifindex, 0);
}

// The reverse of encap.
SEC("tcx/ingress")
int decap(struct __sk_buff *skb)
{
	__u8 protocol;
	int done;

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, ETH_HLEN + 9, &protocol, 1) || protocol != 4)
		return TCX_NEXT;
	done = bpf_skb_adjust_room(skb, -(int)sizeof(struct iphdr), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
	count(40 + (__u32)-done, 1);
	return bpf_redirect(out_ifindex, 0);
}

// A router by bpf_fib_lookup and bpf_redirect.
SEC("tcx/ingress")
int router(struct __sk_buff *skb)
{
	struct bpf_fib_lookup fib = { .family = 2, .ifindex = skb->ingress_ifindex };
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	__u32 mtu = 0;
	int found;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ttl <= 1)
		return TCX_NEXT;
	fib.tos = ip->tos;
	fib.l4_protocol = ip->protocol;
	fib.tot_len = skb->len % 3 ? bpf_ntohs(ip->tot_len) : 0;
	fib.ipv4_src = ip->saddr;
	fib.ipv4_dst = ip->daddr;
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), skb->len % 7 ? 0 : BPF_FIB_LOOKUP_DIRECT);
	count(found < 0 ? 100 - found : found, 1);
	count(200, fib.mtu_result);
	if (found != BPF_FIB_LKUP_RET_SUCCESS)
		return TCX_NEXT;
	count(300 + bpf_check_mtu(skb, fib.ifindex, &mtu, 0, 0), mtu);
	bpf_skb_store_bytes(skb, 0, fib.dmac, 6, 0);
	bpf_skb_store_bytes(skb, 6, fib.smac, 6, 0);
	bpf_l3_csum_replace(skb, ETH_HLEN + 10, bpf_htons(0x0100), 0, 2);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	ip = data + sizeof(*eth);
	if ((void *)(ip + 1) > end)
		return TCX_DROP;
	ip->ttl--;
	return bpf_redirect(fib.ifindex, 0);
}

// What goes into a tunnel in metadata mode, and what comes out of it.
SEC("tcx/egress")
int tunnel_out(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = { .tunnel_id = 42, .remote_ipv4 = 0x0a000209, .local_ipv4 = 0x0a000202 };
	__u64 flags = 0;
	int done;

	key.tunnel_tos = skb->len % 5 ? 0 : 0x20;
	key.tunnel_ttl = skb->len % 4 ? 0 : 33;
	if (skb->len % 3 == 0)
		flags |= BPF_F_ZERO_CSUM_TX;
	if (skb->len % 7 == 0)
		flags |= BPF_F_DONT_FRAGMENT;
	// the source port follows the hash
	bpf_set_hash(skb, skb->len * 2654435761u);
	done = bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags);
	count(400 + (__u32)-done, 1);
	return TCX_NEXT;
}

SEC("tcx/ingress")
int tunnel_in(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};
	int done = bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0);

	count(500 + (__u32)-done, 1);
	count(501 + key.tunnel_id, 1);
	count(600, key.remote_ipv4 & 0xff);
	count(601, key.local_ipv4 & 0xff);
	count(700 + key.tunnel_ttl, 1);
	count(1000 + key.tunnel_tos, 1);
	return TCX_NEXT;
}

SEC("tcx/ingress")
int forward(struct __sk_buff *skb)
{
	return bpf_redirect(out_ifindex, 0);
}

SEC("xdp")
int xdp_router(struct xdp_md *ctx)
{
	struct bpf_fib_lookup fib = { .family = 2, .ifindex = ctx->ingress_ifindex };
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	int found;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ttl <= 1)
		return XDP_PASS;
	fib.l4_protocol = ip->protocol;
	fib.tot_len = bpf_ntohs(ip->tot_len);
	fib.ipv4_src = ip->saddr;
	fib.ipv4_dst = ip->daddr;
	found = bpf_fib_lookup(ctx, &fib, sizeof(fib), BPF_FIB_LOOKUP_SRC);
	count(found < 0 ? 100 - found : found, 1);
	count(200, fib.ipv4_src);
	count(201, fib.rt_metric);
	if (found != BPF_FIB_LKUP_RET_SUCCESS)
		return XDP_PASS;
	__builtin_memcpy(eth->h_dest, fib.dmac, 6);
	__builtin_memcpy(eth->h_source, fib.smac, 6);
	ip->ttl--;
	ip->check += bpf_htons(0x0100);
	if (ip->check < bpf_htons(0x0100))
		ip->check++;
	return bpf_redirect(fib.ifindex, 0);
}

char _license[] SEC("license") = "GPL";
