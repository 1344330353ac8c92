// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// More of what programs do to packets: heads, protocols and rooms that change, NAT of ICMP and of UDP without a checksum,
// redirects to the peer of a pair, programs of devmaps and cpumaps, odd frames.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HELPER(number, result, name, ...) static result (*const name)(__VA_ARGS__) = (void *)number

HELPER(9, long, bpf_skb_store_bytes, struct __sk_buff *, __u32, const void *, __u32, __u64);
HELPER(10, long, bpf_l3_csum_replace, struct __sk_buff *, __u32, __u64, __u64, __u64);
HELPER(11, long, bpf_l4_csum_replace, struct __sk_buff *, __u32, __u64, __u64, __u64);
HELPER(13, long, bpf_clone_redirect, struct __sk_buff *, __u32, __u64);
HELPER(31, long, bpf_skb_change_proto, struct __sk_buff *, __be16, __u64);
HELPER(34, __u32, bpf_get_hash_recalc, struct __sk_buff *);
HELPER(38, long, bpf_skb_change_tail, struct __sk_buff *, __u32, __u64);
HELPER(39, long, bpf_skb_pull_data, struct __sk_buff *, __u32);
HELPER(43, long, bpf_skb_change_head, struct __sk_buff *, __u32, __u64);
HELPER(50, long, bpf_skb_adjust_room, struct __sk_buff *, __s32, __u32, __u64);
HELPER(97, long, bpf_skb_ecn_set_ce, struct __sk_buff *);
HELPER(155, long, bpf_redirect_peer, __u32, __u64);

#define ADJ_ROOM_DECAP_L3_IPV4 (1 << 7)
#define TCX_NEXT -1
#define TCX_PASS 0
#define TCX_DROP 2

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

volatile const __u32 out_ifindex = 0;

static __always_inline void count(__u32 key, __u64 by)
{
	__u64 *seen = bpf_map_lookup_elem(&counts, &key);

	if (seen)
		__sync_fetch_and_add(seen, by);
	else
		bpf_map_update_elem(&counts, &key, &by, 0);
}

// Heads that grow, protocols that change, rooms of all kinds; results and what is seen afterwards are counted.
SEC("tcx/ingress")
int change(struct __sk_buff *skb)
{
	__u32 way = skb->len % 14;
	int done = 0;
	__u8 byte = 0;

	// of a network header that is cut short nobody knows what is moved
	if (skb->len < 34)
		return TCX_DROP;
	switch (way) {
	case 0:
		done = bpf_skb_change_head(skb, 14, 0);
		break;
	case 1:
		done = bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0);
		break;
	case 2:
		done = bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0);
		break;
	case 3:
		done = bpf_skb_change_tail(skb, 40 + skb->len / 2, 0);
		break;
	case 4:
		done = bpf_skb_adjust_room(skb, 28, BPF_ADJ_ROOM_MAC,
					   BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP);
		break;
	case 5:
		done = bpf_skb_adjust_room(skb, 24, BPF_ADJ_ROOM_MAC,
					   BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_GRE);
		break;
	case 6:
		done = bpf_skb_adjust_room(skb, 50, BPF_ADJ_ROOM_MAC,
					   BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
						   BPF_F_ADJ_ROOM_ENCAP_L2(14) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH);
		break;
	case 7:
		done = bpf_skb_adjust_room(skb, 40, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6);
		break;
	case 8:
		done = bpf_skb_adjust_room(skb, 8, BPF_ADJ_ROOM_NET, 0);
		break;
	case 9:
		done = bpf_skb_adjust_room(skb, -8, BPF_ADJ_ROOM_NET, 0);
		break;
	case 10:
		done = bpf_skb_adjust_room(skb, -20, BPF_ADJ_ROOM_MAC, 0);
		break;
	case 11:
		done = bpf_skb_adjust_room(skb, 12, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_NO_CSUM_RESET);
		break;
	case 12:
		done = bpf_skb_adjust_room(skb, -20, BPF_ADJ_ROOM_MAC, ADJ_ROOM_DECAP_L3_IPV4);
		break;
	case 13:
		done = bpf_skb_pull_data(skb, skb->len) ?: bpf_skb_ecn_set_ce(skb);
		break;
	}
	count(1000 * way + (done < 0 ? -done : 500 + done), 1);
	count(20000 + way, skb->len);
	count(21000 + way, skb->protocol);
	if (!bpf_skb_load_bytes(skb, skb->len - 1, &byte, 1))
		count(22000 + way, byte);
	count(23000 + way, skb->data_end - skb->data);
	return bpf_redirect(out_ifindex, 0);
}

// Addresses of ICMP, and of UDP whose checksum may be absent: by bpf_csum_diff and by the helpers that replace.
SEC("tcx/ingress")
int nat_odd(struct __sk_buff *skb)
{
	__be32 from, to = bpf_htonl(0x0a000207);
	__u8 ihl, protocol, type = 5;
	__be16 check, ident, new_ident = bpf_htons(4711);
	__s64 diff;
	int l4;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TCX_NEXT;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ihl, 1) || bpf_skb_load_bytes(skb, ETH_HLEN + 9, &protocol, 1) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + 16, &from, 4)) {
		count(1, 1);
		return TCX_DROP;
	}
	l4 = ETH_HLEN + (ihl & 15) * 4;
	diff = bpf_csum_diff(&from, 4, &to, 4, 0);
	count(2, diff);
	bpf_skb_store_bytes(skb, ETH_HLEN + 16, &to, 4, 0);
	count(10 - bpf_l3_csum_replace(skb, ETH_HLEN + 10, 0, diff, 0), 1);
	switch (protocol) {
	case 17:
		count(20 - bpf_l4_csum_replace(skb, l4 + 6, 0, diff, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0), 1);
		break;
	case 6:
		count(40 - bpf_l4_csum_replace(skb, l4 + 16, 0, diff, BPF_F_PSEUDO_HDR), 1);
		break;
	case 1:
		if (bpf_skb_load_bytes(skb, l4 + 4, &ident, 2))
			break;
		count(60 - bpf_l4_csum_replace(skb, l4 + 2, ident, new_ident, 2), 1);
		count(80 - bpf_skb_store_bytes(skb, l4 + 4, &new_ident, 2, 0), 1);
		count(100 - bpf_l4_csum_replace(skb, l4 + 2, bpf_htons(0x0800), bpf_htons(0x0500), 2), 1);
		count(120 - bpf_skb_store_bytes(skb, l4, &type, 1, BPF_F_INVALIDATE_HASH), 1);
		break;
	}
	count(140, bpf_get_hash_recalc(skb) != 0);
	if (!bpf_skb_load_bytes(skb, l4 + 6, &check, 2))
		count(141, check);
	return bpf_redirect(out_ifindex, 0);
}

SEC("tcx/ingress")
int to_peer(struct __sk_buff *skb)
{
	count(1, skb->len);
	return bpf_redirect_peer(out_ifindex, 0);
}

// Copies out of two devices, then the packet itself.
SEC("tcx/ingress")
int clones(struct __sk_buff *skb)
{
	__u8 mark = 0xcc;

	count(1 - bpf_clone_redirect(skb, out_ifindex, 0), 1);
	bpf_skb_store_bytes(skb, 6, &mark, 1, 0);
	if (skb->len % 3 == 0)
		count(30 - bpf_clone_redirect(skb, out_ifindex, 0), 1);
	if (skb->len % 5 == 0)
		return TCX_DROP;
	return bpf_redirect(out_ifindex, 0);
}

SEC("tcx/ingress")
int forward(struct __sk_buff *skb)
{
	count(1, 1);
	count(10000 + skb->protocol, 1);
	count(3, skb->len);
	count(4 + skb->pkt_type, 1);
	count(20, skb->vlan_tci);
	count(21, skb->vlan_present);
	return bpf_redirect(out_ifindex, 0);
}

SEC("xdp")
int to_device(struct xdp_md *ctx)
{
	__u32 key = (ctx->data_end - ctx->data) % 4;

	count(1 + key, 1);
	return bpf_redirect_map(&devices, key, XDP_DROP);
}

SEC("xdp")
int to_all(struct xdp_md *ctx)
{
	return bpf_redirect_map(&devices, 0, BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS);
}

// On the way out: another source address, some dropped, some with another length.
SEC("xdp/devmap")
int egress(struct xdp_md *ctx)
{
	__u32 size = ctx->data_end - ctx->data;
	__u8 *data;

	count(100 + (ctx->egress_ifindex == out_ifindex), 1);
	count(102, size);
	if (size % 7 == 0)
		return XDP_DROP;
	if (size % 5 == 0)
		count(110 - bpf_xdp_adjust_tail(ctx, -4), 1);
	if (size % 11 == 0)
		count(130 - bpf_xdp_adjust_head(ctx, -8), 1);
	data = (void *)(long)ctx->data;
	if (data + 14 > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
	// what was in front of the frame is anything
	for (int i = 0; i < 8; i++)
		data[i] = 2 * i;
	data[6] = 0xee;
	data[11] = size;
	return size % 13 ? XDP_PASS : XDP_TX;
}

SEC("xdp")
int to_cpu(struct xdp_md *ctx)
{
	__u32 key = (ctx->data_end - ctx->data) % 5 ? 0 : 1;

	count(1 + key, 1);
	return bpf_redirect_map(&cpus, key, XDP_PASS);
}

SEC("xdp/cpumap")
int on_cpu(struct xdp_md *ctx)
{
	__u32 size = ctx->data_end - ctx->data;
	__u8 *data = (void *)(long)ctx->data;

	count(100, size);
	count(101 + ctx->rx_queue_index, 1);
	if (data + 14 > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
	data[7] = 0xc0;
	if (size % 7 == 0)
		return XDP_DROP;
	if (size % 11 == 0) {
		count(110 - bpf_xdp_adjust_head(ctx, -4), 1);
		data = (void *)(long)ctx->data;
		if (data + 14 > (__u8 *)(long)ctx->data_end)
			return XDP_ABORTED;
		for (int i = 0; i < 4; i++)
			data[i] = 2;
	}
	if (size % 6 == 0)
		return bpf_redirect(out_ifindex, 0);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
