// How it was written before BTF maps: a helper of one's own, goto for every exit, 32-bit counters, no structs.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(long));
	__uint(max_entries, 256);
} rxcnt SEC(".maps");

static int parse_ipv4(void *data, __u64 nh_off, void *data_end)
{
	__u8 *ip = data + nh_off;

	if ((void *)(ip + 20) > data_end)
		return 0;
	return ip[9];
}

SEC("xdp")
int legacy_style(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	int rc = XDP_DROP;
	__u16 h_proto;
	__u64 nh_off;
	__u32 ipproto;
	long *value;

	nh_off = 14;
	if (data + nh_off > data_end)
		goto out;
	h_proto = *(__u16 *)(data + 12);
	if (h_proto == bpf_htons(ETH_P_8021Q) || h_proto == bpf_htons(ETH_P_8021AD)) {
		nh_off += 4;
		if (data + nh_off > data_end)
			goto out;
		h_proto = *(__u16 *)(data + 16);
	}
	if (h_proto == bpf_htons(ETH_P_IP))
		ipproto = parse_ipv4(data, nh_off, data_end);
	else if (h_proto == bpf_htons(ETH_P_IPV6))
		ipproto = 41;
	else
		ipproto = 0;
	value = bpf_map_lookup_elem(&rxcnt, &ipproto);
	if (value)
		*value += 1;
	rc = ipproto == 17 ? XDP_TX : XDP_PASS;
out:
	return rc;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
