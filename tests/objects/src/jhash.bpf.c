// Bob Jenkins' hash of the five-tuple picks one of eight back ends, as the kernel's jhash does it.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define JHASH_INITVAL 0xdeadbeef

static __always_inline __u32 rol32(__u32 word, unsigned int shift)
{
	return word << shift | word >> (-shift & 31);
}

#define jhash_mix(a, b, c)                                \
	{                                                 \
		a -= c;  a ^= rol32(c, 4);  c += b;       \
		b -= a;  b ^= rol32(a, 6);  a += c;       \
		c -= b;  c ^= rol32(b, 8);  b += a;       \
		a -= c;  a ^= rol32(c, 16); c += b;       \
		b -= a;  b ^= rol32(a, 19); a += c;       \
		c -= b;  c ^= rol32(b, 4);  b += a;       \
	}

#define jhash_final(a, b, c)             \
	{                                \
		c ^= b; c -= rol32(b, 14); \
		a ^= c; a -= rol32(c, 11); \
		b ^= a; b -= rol32(a, 25); \
		c ^= b; c -= rol32(b, 16); \
		a ^= c; a -= rol32(c, 4);  \
		b ^= a; b -= rol32(a, 14); \
		c ^= b; c -= rol32(b, 24); \
	}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} backends SEC(".maps");

__u32 last_hash;

SEC("xdp")
int jhash(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *ports = (void *)(ip + 1); // TCP has its ports at the same place
	__u32 a, b, c, key, *hits;

	if ((void *)(ports + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	a = b = c = JHASH_INITVAL + (4 << 2) + 17;
	a += ip->saddr;
	b += ip->daddr;
	c += (__u32)ports->source << 16 | ports->dest;
	jhash_mix(a, b, c);
	a += ip->protocol;
	jhash_final(a, b, c);
	last_hash = c;
	key = c % 8;
	hits = bpf_map_lookup_elem(&backends, &key);
	if (hits)
		__sync_fetch_and_add(hits, 1);
	return key + 10;
}

char LICENSE[] SEC("license") = "GPL";
