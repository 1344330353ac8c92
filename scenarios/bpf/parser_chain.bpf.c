// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A parser made of five programs: each looks at one header and tail-calls the parser of the next one. What they
// hand over is a scratch record in a per-CPU array (a CPU finishes one packet before it takes the next).
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum parser { PARSE_IPV4, PARSE_TCP, PARSE_UDP, PARSE_ICMP, NR_PARSERS };

enum drop_reason {
	DROP_TRUNCATED,	   // a header is not all there
	DROP_BAD_HEADER,   // a field has a value that it must not have
	DROP_NO_PARSER,	   // nothing in the chain knows this protocol
	DROP_CLOSED_PORT,  // TCP or UDP to a port that is not open
	NR_DROP_REASONS,
};

// The first bytes of every ICMP message (<linux/icmp.h> would pull in headers of the C library).
struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
};

#define ICMP_ECHOREPLY 0
#define ICMP_ECHO 8

int parse_ipv4(struct xdp_md *ctx);
int parse_tcp(struct xdp_md *ctx);
int parse_udp(struct xdp_md *ctx);
int parse_icmp(struct xdp_md *ctx);

// The chain. The loader fills it in from `values`; a scenario can change it while packets flow.
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, NR_PARSERS);
	__type(key, __u32);
	__array(values, int(struct xdp_md *));
} parsers SEC(".maps") = {
	.values = {
		[PARSE_IPV4] = &parse_ipv4,
		[PARSE_TCP] = &parse_tcp,
		[PARSE_UDP] = &parse_udp,
		[PARSE_ICMP] = &parse_icmp,
	},
};

// What the chain has found out about the packet so far.
struct parsed {
	__u8 l4_off;  // bytes from the start of the frame to the header above IP, at most 14 + 60
	__u16 l4_len; // bytes of IP payload, by the IP header
	__u8 protocol;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct parsed);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NR_DROP_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} drops SEC(".maps");

// Packets that made it to the end of the chain, by IP protocol.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u8);
	__type(value, __u64);
} passed SEC(".maps");

// Set by user space before the program is loaded; 53 (DNS) and 80 (HTTP) unless told otherwise.
const volatile __u16 open_udp_port = 53;
const volatile __u16 open_tcp_port = 80;

static __always_inline int drop(__u32 reason)
{
	__u64 *packets = bpf_map_lookup_elem(&drops, &reason);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	return XDP_DROP;
}

static __always_inline int pass(__u8 protocol)
{
	__u64 *packets = bpf_map_lookup_elem(&passed, &protocol);
	__u64 one = 1;

	if (packets)
		__sync_fetch_and_add(packets, 1);
	else
		bpf_map_update_elem(&passed, &protocol, &one, BPF_NOEXIST);
	return XDP_PASS;
}

static __always_inline struct parsed *parsed_so_far(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&scratch, &only);
}

// Return the header above IP when all of it is there, else NULL.
static __always_inline void *l4_header(struct xdp_md *ctx, const struct parsed *parsed, __u64 size)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	void *header = data + parsed->l4_off;

	return header + size > data_end ? NULL : header;
}

SEC("xdp")
int parse_eth(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > data_end)
		return drop(DROP_TRUNCATED);
	if (eth->h_proto == bpf_htons(ETH_P_ARP))
		return XDP_PASS; // hosts must find each other
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		bpf_tail_call(ctx, &parsers, PARSE_IPV4);
	return drop(DROP_NO_PARSER); // reached only when there was no tail call
}

SEC("xdp")
int parse_ipv4(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct parsed *parsed = parsed_so_far();
	__u32 header_bytes, total_bytes;

	if (!parsed || (void *)(ip + 1) > data_end)
		return drop(DROP_TRUNCATED);
	header_bytes = ip->ihl * 4;
	total_bytes = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header_bytes < sizeof(*ip) || total_bytes < header_bytes)
		return drop(DROP_BAD_HEADER);

	parsed->l4_off = sizeof(struct ethhdr) + header_bytes;
	parsed->l4_len = total_bytes - header_bytes;
	parsed->protocol = ip->protocol;

	switch (ip->protocol) {
	case IPPROTO_TCP:
		bpf_tail_call(ctx, &parsers, PARSE_TCP);
		break;
	case IPPROTO_UDP:
		bpf_tail_call(ctx, &parsers, PARSE_UDP);
		break;
	case IPPROTO_ICMP:
		bpf_tail_call(ctx, &parsers, PARSE_ICMP);
		break;
	}
	return drop(DROP_NO_PARSER);
}

SEC("xdp")
int parse_tcp(struct xdp_md *ctx)
{
	struct parsed *parsed = parsed_so_far();
	struct tcphdr *tcp;

	if (!parsed)
		return XDP_ABORTED;
	tcp = l4_header(ctx, parsed, sizeof(*tcp));
	if (!tcp)
		return drop(DROP_TRUNCATED);
	if (tcp->doff < 5 || tcp->doff * 4 > parsed->l4_len || (tcp->syn && tcp->fin))
		return drop(DROP_BAD_HEADER);
	if (tcp->dest != bpf_htons(open_tcp_port))
		return drop(DROP_CLOSED_PORT);
	return pass(IPPROTO_TCP);
}

SEC("xdp")
int parse_udp(struct xdp_md *ctx)
{
	struct parsed *parsed = parsed_so_far();
	struct udphdr *udp;

	if (!parsed)
		return XDP_ABORTED;
	udp = l4_header(ctx, parsed, sizeof(*udp));
	if (!udp)
		return drop(DROP_TRUNCATED);
	if (bpf_ntohs(udp->len) != parsed->l4_len)
		return drop(DROP_BAD_HEADER);
	if (udp->dest != bpf_htons(open_udp_port))
		return drop(DROP_CLOSED_PORT);
	return pass(IPPROTO_UDP);
}

SEC("xdp")
int parse_icmp(struct xdp_md *ctx)
{
	struct parsed *parsed = parsed_so_far();
	struct icmp_header *icmp;

	if (!parsed)
		return XDP_ABORTED;
	icmp = l4_header(ctx, parsed, sizeof(*icmp));
	if (!icmp)
		return drop(DROP_TRUNCATED);
	if (icmp->type != ICMP_ECHO && icmp->type != ICMP_ECHOREPLY)
		return drop(DROP_BAD_HEADER);
	return pass(IPPROTO_ICMP);
}

char LICENSE[] SEC("license") = "GPL";
