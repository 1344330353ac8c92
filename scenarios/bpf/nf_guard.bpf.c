// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Programs on the hooks of netfilter: one lets only answers and DNS be forwarded, one stops a host from sending to a
// port. They say NF_ACCEPT or NF_DROP, as the rules of a firewall do.
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/netfilter.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

struct net_device {
	int ifindex;
} KERNEL_STRUCT;
struct nf_hook_state {
	struct net_device *in;
} KERNEL_STRUCT;
struct sk_buff {
	unsigned char *head;
	__u16 network_header;
	unsigned int len;
} KERNEL_STRUCT;
struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
} KERNEL_STRUCT;

// packets of UDP by their destination port
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u16);
	__type(value, __u64);
} forwarded SEC(".maps");

const volatile int inside = 1; // the interface behind which everything is allowed

static __always_inline int udp_port(struct bpf_nf_ctx *ctx)
{
	const unsigned char *packet = ctx->skb->head + ctx->skb->network_header;
	struct udphdr udp;
	struct iphdr ip;

	if (bpf_probe_read_kernel(&ip, sizeof(ip), packet) || ip.protocol != IPPROTO_UDP)
		return -1;
	if (bpf_probe_read_kernel(&udp, sizeof(udp), packet + ip.ihl * 4))
		return -1;
	return bpf_ntohs(udp.dest);
}

SEC("netfilter")
int guard(struct bpf_nf_ctx *ctx)
{
	__u64 zero = 0, *count;
	int port = udp_port(ctx);
	__u16 key = port;

	if (ctx->state->in->ifindex != inside && port != 53)
		return NF_DROP;
	if (port < 0)
		return NF_ACCEPT;
	bpf_map_update_elem(&forwarded, &key, &zero, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&forwarded, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	return NF_ACCEPT;
}

SEC("netfilter")
int no_telnet(struct bpf_nf_ctx *ctx)
{
	return udp_port(ctx) == 23 ? NF_DROP : NF_ACCEPT;
}

char LICENSE[] SEC("license") = "GPL";
