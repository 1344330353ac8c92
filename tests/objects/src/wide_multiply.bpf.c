// Products of 128 bits, quotients and remainders, summed over the words of the packet.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct wide {
	__u64 high, low;
} sum;
__u64 quotients, remainders;

static __always_inline struct wide multiply(__u64 a, __u64 b)
{
	__u64 al = (__u32)a, ah = a >> 32, bl = (__u32)b, bh = b >> 32;
	__u64 ll = al * bl, lh = al * bh, hl = ah * bl, middle = (ll >> 32) + (__u32)lh + (__u32)hl;

	return (struct wide){ ah * bh + (lh >> 32) + (hl >> 32) + (middle >> 32), middle << 32 | (__u32)ll };
}

SEC("xdp")
int wide_multiply(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;

	for (int i = 0; i < 6; i++) {
		__u64 *words = data + i * 16, a, b;
		struct wide product;

		if ((void *)(words + 2) > data_end)
			break;
		a = words[0];
		b = words[1];
		product = multiply(a, b);
		sum.low += product.low;
		sum.high += product.high + (sum.low < product.low);
		quotients += a / (b | 1);
		remainders ^= b % ((__u32)a | 1);
		if (b)
			quotients -= (__u32)a / (__u32)b; // the low half may be zero
	}
	return sum.high & 1 ? XDP_TX : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
