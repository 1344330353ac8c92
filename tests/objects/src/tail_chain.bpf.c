// Three programs joined by tail calls; the array is filled by its initialiser.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

int on_udp(struct xdp_md *ctx);
int on_tcp(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 256);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} by_protocol SEC(".maps") = {
	.values = {
		[IPPROTO_TCP] = (void *)&on_tcp,
		[IPPROTO_UDP] = (void *)&on_udp,
	},
};

__u32 path = 0; // one decimal digit for each program that ran

SEC("xdp")
int on_udp(struct xdp_md *ctx)
{
	path = path * 10 + 2;
	return XDP_DROP;
}

SEC("xdp")
int on_tcp(struct xdp_md *ctx)
{
	path = path * 10 + 3;
	bpf_tail_call(ctx, &by_protocol, IPPROTO_UDP);
	return XDP_ABORTED;
}

SEC("xdp")
int tail_chain(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);

	path = path * 10 + 1;
	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	bpf_tail_call(ctx, &by_protocol, ip->protocol);
	path = path * 10 + 9;
	return XDP_TX; // an empty slot
}

char LICENSE[] SEC("license") = "GPL";
