// Looks for the router-alert option among the options of an IPv4 header, byte by byte.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define OPT_END 0
#define OPT_NOOP 1
#define OPT_ROUTER_ALERT 148

int options_seen = 0;

SEC("xdp")
int ip_options(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	__u8 *opt;
	int left, i;

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	left = ip->ihl * 4 - (int)sizeof(*ip);
	if (left < 0)
		return XDP_ABORTED;
	opt = (__u8 *)(ip + 1);
	for (i = 0; i < 5 && left > 0; i++) {
		__u8 len;

		if ((void *)(opt + 1) > data_end)
			return XDP_ABORTED;
		if (*opt == OPT_END)
			break;
		options_seen++;
		if (*opt == OPT_ROUTER_ALERT)
			return XDP_DROP;
		if (*opt == OPT_NOOP) {
			opt++;
			left--;
			continue;
		}
		if ((void *)(opt + 2) > data_end)
			return XDP_ABORTED;
		len = opt[1];
		if (len < 2 || len > 40)
			return XDP_ABORTED;
		opt += len;
		left -= len;
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
