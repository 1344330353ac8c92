// 64-bit arithmetic on what the packet holds: multiplication, unsigned division and modulo (by zero as well), shifts.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct operands {
	__u8 eth[14];
	__u8 pad[2];
	__u64 a;
	__u64 b;
	__u32 c;
	__u32 d;
} __attribute__((packed));

__u64 r64[12];
__u32 r32[12];
__s64 s64[6];

SEC("xdp")
int arith64(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct operands *p = (void *)(long)ctx->data;
	__u64 a, b;
	__u32 c, d;

	if ((void *)(p + 1) > data_end)
		return XDP_DROP;
	a = p->a;
	b = p->b;
	c = p->c;
	d = p->d;
	r64[0] = a * b;
	r64[1] = a + b;
	r64[2] = a - b;
	r64[3] = b ? a / b : 1;
	r64[4] = b ? a % b : 2;
	r64[5] = a / 1000003;
	r64[6] = a % 60;
	r64[7] = a << (b & 63);
	r64[8] = a >> (b & 63);
	r64[9] = (__s64)a >> (b & 63);
	r64[10] = a ^ (b | c);
	r64[11] = -a & ~b;
	r32[0] = c * d;
	r32[1] = c + d;
	r32[2] = c - d;
	r32[3] = d ? c / d : 3;
	r32[4] = d ? c % d : 4;
	r32[5] = c / 7;
	r32[6] = c % 1000;
	r32[7] = c << (d & 31);
	r32[8] = c >> (d & 31);
	r32[9] = (__s32)c >> (d & 31);
	r32[10] = c ^ (d & 0xff00ff);
	r32[11] = -c;
	s64[0] = (__s32)c;
	s64[1] = (__s16)c;
	s64[2] = (__s8)c;
	s64[3] = (__s64)(__s32)a + (__s8)b;
	s64[4] = (__s64)a < (__s64)b ? -1 : (__s64)a > (__s64)b;
	s64[5] = (__s32)c < (__s32)d ? -1 : (__s32)c > (__s32)d;
	return (r64[0] >> 32 ^ r32[0]) & 0x7fff;
}

char LICENSE[] SEC("license") = "GPL";
