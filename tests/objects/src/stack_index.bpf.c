// Arrays on the stack with an index from the packet, masked or checked, and a small sort.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

__u32 counts[4];
__u8 sorted[8];

SEC("xdp")
int stack_index(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	__u8 *data = (void *)(long)ctx->data;
	__u8 bytes[8], *p;
	__u32 hist[4] = {};
	int i, j;

	if ((void *)(data + 22) > data_end)
		return XDP_DROP;
	for (i = 0; i < 8; i++) {
		bytes[i] = data[14 + i];
		hist[bytes[i] & 3]++;
	}
	for (i = 0; i < 7; i++)
		for (j = 0; j < 7 - i; j++)
			if (bytes[j] > bytes[j + 1]) {
				__u8 t = bytes[j];

				bytes[j] = bytes[j + 1];
				bytes[j + 1] = t;
			}
	for (i = 0; i < 8; i++)
		sorted[i] = bytes[i];
	for (i = 0; i < 4; i++)
		counts[i] += hist[i];
	p = bytes;
	barrier_var(p); // or else the compiler joins pointer and index by `or`, which the verifier refuses
	return p[data[14] & 7];
}

char LICENSE[] SEC("license") = "GPL";
