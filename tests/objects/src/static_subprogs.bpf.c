// Functions that are not inlined, with pointers to the caller's stack, to the packet and to a map value.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct tuple {
	__u32 saddr;
	__u32 daddr;
	__u8 proto;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} buckets SEC(".maps");

static __noinline int extract(struct xdp_md *ctx, struct tuple *out)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);

	if ((void *)(ip + 1) > data_end)
		return -1;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return -2;
	out->saddr = bpf_ntohl(ip->saddr);
	out->daddr = bpf_ntohl(ip->daddr);
	out->proto = ip->protocol;
	return 0;
}

static __noinline __u32 mix(__u32 a, __u32 b, __u32 c)
{
	a ^= b << 7 | b >> 25;
	a += c * 2654435761u;
	return a ^ a >> 15;
}

static __noinline void bump(__u64 *value, __u64 by)
{
	*value += by;
}

static __noinline __u32 bucket_of(const struct tuple *t)
{
	return mix(t->saddr, t->daddr, t->proto) & 3;
}

SEC("xdp")
int static_subprogs(struct xdp_md *ctx)
{
	struct tuple t;
	__u32 key;
	__u64 *value;
	int err = extract(ctx, &t);

	if (err)
		return err == -1 ? XDP_ABORTED : XDP_PASS;
	key = bucket_of(&t);
	value = bpf_map_lookup_elem(&buckets, &key);
	if (value)
		bump(value, t.proto);
	return key;
}

char LICENSE[] SEC("license") = "GPL";
