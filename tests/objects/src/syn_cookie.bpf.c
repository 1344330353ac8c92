// Answers a SYN with a SYN-ACK whose sequence number is a keyed hash, and checks the ACKs that come back.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile struct {
	__u64 k0, k1;
} secret = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };
__u64 cookies, wrong;

static __always_inline __u64 rotl(__u64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static __attribute__((noinline)) __u32 cookie(__u32 saddr, __u32 daddr, __u32 ports, __u32 seq)
{
	__u64 a = secret.k0 ^ ((__u64)saddr << 32 | daddr), b = secret.k1 ^ ((__u64)ports << 32 | seq);

	for (int i = 0; i < 4; i++) {
		a += b;
		b = rotl(b, 13) ^ a;
		a = rotl(a, 32) + secret.k1;
	}
	return a ^ b >> 7;
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

SEC("xdp")
int syn_cookie(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	__u8 mac[ETH_ALEN];
	__u32 hash, ports;
	__be32 addr;
	__be16 port;
	int excess;

	if ((void *)(tcp + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->ihl != 5 || ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	ports = (__u32)tcp->source << 16 | tcp->dest;
	if (!tcp->syn || tcp->ack) {
		hash = cookie(ip->saddr, ip->daddr, ports, bpf_ntohl(tcp->seq) - 1);
		if (tcp->ack && hash != bpf_ntohl(tcp->ack_seq) - 1)
			__sync_fetch_and_add(&wrong, 1);
		return XDP_PASS;
	}
	hash = cookie(ip->saddr, ip->daddr, ports, bpf_ntohl(tcp->seq));
	cookies++;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	addr = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = addr;
	port = tcp->source;
	tcp->source = tcp->dest;
	tcp->dest = port;
	tcp->ack_seq = bpf_htonl(bpf_ntohl(tcp->seq) + 1);
	tcp->seq = bpf_htonl(hash);
	tcp->ack = 1;
	tcp->doff = 5;
	ip->tot_len = bpf_htons(40);
	ip->check = 0;
	ip->check = fold(bpf_csum_diff(0, 0, (void *)ip, sizeof(*ip), 0));
	tcp->check = 0;
	tcp->check = fold(bpf_csum_diff(0, 0, (void *)tcp, sizeof(*tcp), 0) + bpf_htons(IPPROTO_TCP) +
			  bpf_htons(20) + ip->saddr + (__u64)ip->daddr);
	excess = data_end - data - 54;
	if (excess > 0 && bpf_xdp_adjust_tail(ctx, -excess))
		return XDP_ABORTED;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
