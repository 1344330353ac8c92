// A histogram of packet sizes in powers of two.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SLOTS 16

struct hist {
	__u32 slots[SLOTS];
	__u64 total;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hist);
} sizes SEC(".maps");

static __always_inline __u32 log2_u32(__u32 v)
{
	__u32 shift, r;

	r = (v > 0xffff) << 4;
	v >>= r;
	shift = (v > 0xff) << 3;
	v >>= shift;
	r |= shift;
	shift = (v > 0xf) << 2;
	v >>= shift;
	r |= shift;
	shift = (v > 0x3) << 1;
	v >>= shift;
	r |= shift;
	r |= v >> 1;
	return r;
}

SEC("xdp")
int histogram(struct xdp_md *ctx)
{
	__u32 zero = 0, slot, len = ctx->data_end - ctx->data;
	struct hist *hist = bpf_map_lookup_elem(&sizes, &zero);

	if (!hist)
		return XDP_ABORTED;
	slot = log2_u32(len);
	if (slot >= SLOTS)
		slot = SLOTS - 1;
	__sync_fetch_and_add(&hist->slots[slot], 1);
	__sync_fetch_and_add(&hist->total, len);
	return slot;
}

char LICENSE[] SEC("license") = "GPL";
