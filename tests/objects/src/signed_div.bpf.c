// Signed division and modulo (instruction set version 4): truncation toward zero, all four combinations of signs.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct operands {
	__u8 eth[14];
	__u8 pad[2];
	__s64 a;
	__s64 b;
	__s32 c;
	__s32 d;
} __attribute__((packed));

__s64 q64, m64, c64;
__s32 q32, m32, c32;
__s64 wide;

SEC("xdp")
int signed_div(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct operands *p = (void *)(long)ctx->data;

	if ((void *)(p + 1) > data_end)
		return XDP_DROP;
	q64 = p->a / p->b; // by zero: 0, and the modulo leaves the dividend
	m64 = p->a % p->b;
	q32 = p->c / p->d;
	m32 = p->c % p->d;
	c64 = p->a / -7 + p->a % 13;
	c32 = p->c / -7 + p->c % 13;
	wide = *(__s8 *)&p->eth[0] + *(__s16 *)&p->eth[2] + *(__s32 *)&p->eth[4];
	return q32 & 0xffff;
}

char LICENSE[] SEC("license") = "GPL";
