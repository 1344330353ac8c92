// Computes the UDP checksum over the whole datagram with a loop up to data_end, and writes it into the packet.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_WORDS 64

SEC("xdp")
int udp_csum_loop(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct udphdr *udp = (void *)(ip + 1);
	__u64 sum = 0;
	__u16 *word;
	int i;

	if ((void *)(udp + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	udp->check = 0;
	sum = (ip->saddr & 0xffff) + (ip->saddr >> 16) + (ip->daddr & 0xffff) + (ip->daddr >> 16);
	sum += bpf_htons(IPPROTO_UDP) + udp->len;
	word = (void *)udp;
	for (i = 0; i < MAX_WORDS; i++) {
		if ((void *)(word + 1) > data_end)
			break;
		sum += *word++;
	}
	if ((void *)word + 1 <= data_end)
		sum += *(__u8 *)word;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	udp->check = ~sum ? ~sum : 0xffff;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
