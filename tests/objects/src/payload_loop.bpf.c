// Reads up to 64 payload bytes one by one: sum, xor, and the number of zero bytes.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX 64

struct summary {
	__u32 sum;
	__u32 zeroes;
	__u8 xor_;
};

struct summary summary;

SEC("xdp")
int payload_loop(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	__u8 *p = (void *)(long)ctx->data;
	struct summary s = {};

	for (int i = 0; i < MAX; i++) {
		if ((void *)(p + i + 1) > data_end)
			break;
		s.sum += p[i];
		s.xor_ ^= p[i];
		if (!p[i])
			s.zeroes++;
	}
	summary = s;
	return s.sum & 0xff;
}

char LICENSE[] SEC("license") = "GPL";
