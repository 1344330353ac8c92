// Clamps the MSS option of a SYN to 1400 and mends the checksum incrementally (RFC 1624).
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_MSS 1400
#define MAX_OPTIONS 5

static __always_inline __sum16 csum_update(__sum16 check, __be16 from, __be16 to)
{
	__u32 sum = (__u16)~check + (__u16)~from + to;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

SEC("xdp")
int tcp_mss(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct tcphdr *tcp;
	__u8 *opt, *opts_end;
	int i;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->ihl != 5 || ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	tcp = (void *)(ip + 1);
	if ((void *)(tcp + 1) > data_end)
		return XDP_ABORTED;
	if (!tcp->syn)
		return XDP_PASS;
	opt = (__u8 *)(tcp + 1);
	opts_end = (__u8 *)tcp + tcp->doff * 4;
	for (i = 0; i < MAX_OPTIONS; i++) {
		__u8 kind, len;

		if (opt >= opts_end || (void *)(opt + 1) > data_end)
			break;
		kind = *opt;
		if (kind == 0)
			break;
		if (kind == 1) {
			opt++;
			continue;
		}
		if ((void *)(opt + 2) > data_end)
			return XDP_ABORTED;
		len = opt[1];
		if (len < 2 || len > 40)
			return XDP_ABORTED;
		if (kind == 2 && len == 4) {
			__be16 *mss = (__be16 *)(opt + 2);

			if ((void *)(mss + 1) > data_end)
				return XDP_ABORTED;
			if (bpf_ntohs(*mss) > MAX_MSS) {
				tcp->check = csum_update(tcp->check, *mss, bpf_htons(MAX_MSS));
				*mss = bpf_htons(MAX_MSS);
				return XDP_TX;
			}
			return XDP_PASS;
		}
		opt += len;
	}
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
