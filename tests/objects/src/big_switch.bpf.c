// A large switch over the DSCP field, compiled to a tree of comparisons.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

static __always_inline int class_of(__u8 dscp)
{
	switch (dscp) {
	case 0: return 100;
	case 8: return 117;
	case 10: return 23;
	case 12: return 93;
	case 14: return 44;
	case 16: return 205;
	case 18: return 61;
	case 20: return 172;
	case 22: return 88;
	case 24: return 19;
	case 26: return 151;
	case 28: return 70;
	case 30: return 132;
	case 32: return 7;
	case 34: return 241;
	case 36: return 36;
	case 38: return 190;
	case 40: return 55;
	case 46: return 255;
	case 48: return 2;
	case 56: return 3;
	default: return -1;
	}
}

SEC("xdp")
int big_switch(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);

	if ((void *)(ip + 1) > data_end)
		return XDP_ABORTED;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	return class_of(ip->tos >> 2);
}

char LICENSE[] SEC("license") = "GPL";
