// Untagged frames get VLAN 42, tagged ones lose their outer tag.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct vlan_hdr {
	__be16 tci;
	__be16 proto;
};

static __noinline int pop(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data, old;
	struct vlan_hdr *vlan = data + sizeof(*eth);

	if ((void *)(vlan + 1) > data_end)
		return -1;
	old = *eth;
	old.h_proto = vlan->proto;
	if (bpf_xdp_adjust_head(ctx, sizeof(*vlan)))
		return -1;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	eth = data;
	if ((void *)(eth + 1) > data_end)
		return -1;
	*eth = old;
	return 0;
}

static __noinline int push(struct xdp_md *ctx, __u16 id)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data, old;
	struct vlan_hdr *vlan;

	if ((void *)(eth + 1) > data_end)
		return -1;
	old = *eth;
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*vlan)))
		return -1;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	eth = data;
	vlan = data + sizeof(*eth);
	if ((void *)(vlan + 1) > data_end)
		return -1;
	*eth = old;
	eth->h_proto = bpf_htons(ETH_P_8021Q);
	vlan->tci = bpf_htons(id);
	vlan->proto = old.h_proto;
	return 0;
}

SEC("xdp")
int vlan_push_pop(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	int err;

	if ((void *)(eth + 1) > data_end)
		return XDP_DROP;
	if (eth->h_proto == bpf_htons(ETH_P_8021Q))
		err = pop(ctx);
	else
		err = push(ctx, 42);
	return err ? XDP_ABORTED : XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
