// Byte order in all sizes, on values from the packet and on constants.
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

__u64 out64[3];
__u32 out32[3];
__u16 out16[3];

SEC("xdp")
int byteswap(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	__u8 *data = (void *)(long)ctx->data;
	__u64 v64;
	__u32 v32;
	__u16 v16;

	if ((void *)(data + 32) > data_end)
		return XDP_DROP;
	v64 = *(__u64 *)(data + 16);
	v32 = *(__u32 *)(data + 24);
	v16 = *(__u16 *)(data + 28);
	out64[0] = bpf_be64_to_cpu(v64);
	out64[1] = __builtin_bswap64(v64 + 1);
	out64[2] = (__u64)__builtin_bswap16(v16) << 32;
	out32[0] = bpf_ntohl(v32);
	out32[1] = __builtin_bswap32(v32 * 3) >> 4;
	out32[2] = bpf_htonl(0x01020304) ^ v32;
	out16[0] = bpf_ntohs(v16);
	out16[1] = __builtin_bswap16(v16 - 1);
	out16[2] = bpf_htons(0xabcd) + v16;
	return bpf_ntohs(v16);
}

char LICENSE[] SEC("license") = "GPL";
