// CRC-32 of the first 32 bytes, by a table of 16 entries in the constants.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static const __u32 nibble[16] = {
	0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
	0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
};

__u32 crc;

SEC("xdp")
int crc32(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	__u8 *data = (void *)(long)ctx->data;
	__u32 c = ~0u;

	if ((void *)(data + 32) > data_end)
		return XDP_DROP;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 32; i++) {
		c = nibble[(c ^ data[i]) & 15] ^ c >> 4;
		c = nibble[(c ^ data[i] >> 4) & 15] ^ c >> 4;
	}
	crc = ~c;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
