// Answers pings: type 8 becomes type 0, the checksum follows, everything else of the packet is mirrored.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct icmp_echo {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 id;
	__be16 seq;
};

__u64 replies;
__u64 ignored;

SEC("xdp")
int icmp_reply(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct icmp_echo *icmp = (void *)(ip + 1);
	unsigned char mac[ETH_ALEN];
	__u32 addr, sum;

	if ((void *)(icmp + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 ||
	    ip->protocol != IPPROTO_ICMP || icmp->type != 8 || icmp->code != 0) {
		__sync_fetch_and_add(&ignored, 1);
		return XDP_PASS;
	}
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	addr = ip->daddr;
	ip->daddr = ip->saddr;
	ip->saddr = addr;
	icmp->type = 0;
	sum = icmp->checksum + bpf_htons(0x0800);
	icmp->checksum = sum + (sum >> 16);
	__sync_fetch_and_add(&replies, 1);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
