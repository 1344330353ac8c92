// Stages that tail-call each other and pass what they found through one per-CPU value.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct found {
	__u32 off, stages;
	__be16 proto;
	__u8 l4, tags;
	__u32 trail[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct found);
} scratch SEC(".maps");

enum { STAGE_IP, STAGE_L4, STAGE_TAG = 5, STAGE_NONE };

int stage_ip(struct xdp_md *ctx);
int stage_l4(struct xdp_md *ctx);
int stage_tag(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 8);
	__uint(key_size, 4);
	__array(values, int(void *));
} stages SEC(".maps") = {
	.values = { [STAGE_IP] = (void *)&stage_ip, [STAGE_L4] = (void *)&stage_l4, [STAGE_TAG] = (void *)&stage_tag },
};

__u64 missed;

static __always_inline struct found *enter(__u32 stage)
{
	__u32 zero = 0;
	struct found *found = bpf_map_lookup_elem(&scratch, &zero);

	if (found)
		found->trail[found->stages++ & 7] = stage;
	return found;
}

static __always_inline __u32 next_stage(__be16 proto)
{
	switch (proto) {
	case bpf_htons(ETH_P_IP): return STAGE_IP;
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD): return STAGE_TAG;
	default: return STAGE_NONE;
	}
}

SEC("xdp")
int stage_scratch(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct found *found = enter(100);

	if (!found)
		return XDP_ABORTED;
	__builtin_memset(found, 0, sizeof(*found));
	if (data + ETH_HLEN > data_end)
		return XDP_DROP;
	found->off = ETH_HLEN;
	found->proto = *(__be16 *)(data + 12);
	bpf_tail_call(ctx, &stages, next_stage(found->proto));
	missed++;
	return XDP_PASS;
}

SEC("xdp")
int stage_tag(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct found *found = enter(STAGE_TAG);
	__be16 *tag;

	if (!found || found->off > 200 || found->tags++ > 1)
		return XDP_DROP;
	tag = data + found->off;
	if ((void *)(tag + 2) > data_end)
		return XDP_DROP;
	found->proto = tag[1];
	found->off += 4;
	bpf_tail_call(ctx, &stages, next_stage(found->proto));
	missed += 10;
	return XDP_DROP;
}

SEC("xdp")
int stage_ip(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct found *found = enter(STAGE_IP);
	struct iphdr *ip;

	if (!found || found->off > 200)
		return XDP_DROP;
	ip = data + found->off;
	if ((void *)(ip + 1) > data_end)
		return XDP_DROP;
	found->l4 = ip->protocol;
	found->off += ip->ihl * 4;
	bpf_tail_call(ctx, &stages, STAGE_L4);
	return XDP_ABORTED;
}

SEC("xdp")
int stage_l4(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct found *found = enter(STAGE_L4);
	__be16 *ports;

	if (!found)
		return XDP_ABORTED;
	ports = data + (found->off & 0x1ff);
	if ((void *)(ports + 2) > data_end)
		return XDP_DROP;
	found->trail[7] = bpf_ntohs(ports[1]);
	return found->l4 == IPPROTO_TCP ? XDP_TX : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
