// Every atomic operation that C has for BPF, in 32 and 64 bits, with and without using the old value.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 add64 = 1, and64 = 0xff00ff00ff00ff00, or64 = 0x10, xor64 = 0x5555555555555555, xchg64 = 7, cas64 = 3;
__u32 add32 = 0xfffffff0, and32 = 0xffff, or32 = 1, xor32 = 0xaaaaaaaa, xchg32 = 9, cas32 = 4;
__u64 old64[6];
__u32 old32[6];

SEC("xdp")
int atomics(struct xdp_md *ctx)
{
	__u64 len = ctx->data_end - ctx->data;
	__u32 len32 = len;

	__sync_fetch_and_add(&add64, len);
	__sync_fetch_and_add(&add32, len32);
	old64[0] = __sync_fetch_and_add(&add64, -5);
	old64[1] = __sync_fetch_and_and(&and64, 0xf0f0f0f0f0f0f0f0);
	old64[2] = __sync_fetch_and_or(&or64, len << 32);
	old64[3] = __sync_fetch_and_xor(&xor64, len);
	old64[4] = __sync_lock_test_and_set(&xchg64, len);
	old64[5] = __sync_val_compare_and_swap(&cas64, 3, len);
	old32[0] = __sync_fetch_and_add(&add32, 0x20);
	old32[1] = __sync_fetch_and_and(&and32, 0x0ff0);
	old32[2] = __sync_fetch_and_or(&or32, len32 << 8);
	old32[3] = __sync_fetch_and_xor(&xor32, len32);
	old32[4] = __sync_lock_test_and_set(&xchg32, len32);
	old32[5] = __sync_val_compare_and_swap(&cas32, 5, len32);
	return old64[5] == 3 ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
