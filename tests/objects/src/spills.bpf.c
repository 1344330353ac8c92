// More live values than registers across helper calls: packet pointers and map values go to the stack and come back.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} cells SEC(".maps");

SEC("xdp")
int spills(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	__u32 k0 = 0, k1 = 1, k2 = 2, k3 = 3, k4 = 4;
	__u64 *a, *b, *c, *d, *e, len, id, ttl, src, dst;

	if ((void *)(ip + 1) > data_end)
		return XDP_PASS;
	len = bpf_ntohs(ip->tot_len);
	id = bpf_ntohs(ip->id);
	ttl = ip->ttl;
	src = bpf_ntohl(ip->saddr);
	dst = bpf_ntohl(ip->daddr);
	a = bpf_map_lookup_elem(&cells, &k0);
	b = bpf_map_lookup_elem(&cells, &k1);
	c = bpf_map_lookup_elem(&cells, &k2);
	d = bpf_map_lookup_elem(&cells, &k3);
	e = bpf_map_lookup_elem(&cells, &k4);
	if (!a || !b || !c || !d || !e)
		return XDP_ABORTED;
	*a += len;
	*b ^= id << 16 | ttl;
	*c += *a * ttl;
	*d = *b - src;
	*e = (*d >> 3) + dst + *c;
	ip->tos = *a + *b + *c + *d + *e;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
