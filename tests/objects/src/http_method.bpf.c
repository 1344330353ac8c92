// Compares the start of a TCP payload with strings, which the compiler puts into a section of strings.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const char names[4][5] = { "GET ", "POST", "HEAD", "PUT " };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} by_method SEC(".maps");

SEC("xdp")
int http_method(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	__u32 method = 99;
	__u64 one = 1, *count;
	char *text;

	if ((void *)(tcp + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	if (tcp->doff < 5)
		return XDP_ABORTED;
	text = (char *)tcp + tcp->doff * 4;
	if ((void *)(text + 4) > data_end)
		return XDP_PASS;
	for (__u32 m = 0; m < 4; m++) {
		int same = 1;

		for (int i = 0; i < 4; i++)
			if (text[i] != names[m][i])
				same = 0;
		if (same)
			method = m;
	}
	count = bpf_map_lookup_elem(&by_method, &method);
	if (count)
		*count += 1;
	else
		bpf_map_update_elem(&by_method, &method, &one, BPF_NOEXIST);
	return method == 99 ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
