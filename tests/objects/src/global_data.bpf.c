// Global variables of every kind: initialised, zero, constant, static, arrays and structs.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct limits {
	__u16 low, high;
	__u64 hits[2];
};

int counter = 5;
__u64 zeroed;
static __u32 hidden = 0x1234;
struct limits limits = { .low = 60, .high = 1000 };
static const __u8 table[16] = { 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3 };
const char greeting[] = "hello";
__u8 last_bytes[4];
volatile __u32 volatile_count;

SEC("xdp")
int global_data(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	__u8 *data = (void *)(long)ctx->data;
	__u32 len = ctx->data_end - ctx->data;

	if ((void *)(data + 14) > data_end)
		return XDP_ABORTED;
	counter++;
	zeroed += len;
	hidden ^= table[len & 15] << 8;
	if (len < limits.low)
		limits.hits[0]++;
	else if (len > limits.high)
		limits.hits[1]++;
	for (int i = 0; i < 4; i++)
		last_bytes[i] = data[10 + i] + greeting[i];
	volatile_count += 2;
	return (hidden & 0xff) + table[counter & 15];
}

char LICENSE[] SEC("license") = "GPL";
