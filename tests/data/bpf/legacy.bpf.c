// Maps as objects before 2018 defined them: struct bpf_map_def in section maps, with and without annotated types.
#include "common.h"

struct bpf_map_def {
	unsigned int type, key_size, value_size, max_entries, map_flags;
};

struct value {
	__u64 count;
	__u32 last;
	__u32 pad;
};

struct bpf_map_def SEC("maps") seen = { BPF_MAP_TYPE_HASH, 4, sizeof(struct value), 64, BPF_F_NO_PREALLOC };
struct bpf_map_def SEC("maps") slots = { BPF_MAP_TYPE_ARRAY, 4, 8, 2, 0 };

struct ____btf_map_seen {
	__u32 key;
	struct value value;
};
struct ____btf_map_seen __attribute__((section(".maps.seen"), used)) ____btf_map_seen = {};

SEC("xdp_legacy")
int count(struct xdp_md *ctx)
{
	__u32 key = ctx->ingress_ifindex;
	struct value *value = bpf_map_lookup_elem(&seen, &key);
	__u64 *slot = bpf_map_lookup_elem(&slots, &key);

	if (value)
		value->count++;
	if (slot)
		*slot += 1;
	return XDP_PASS;
}

__u32 VERSION SEC("version") = 0x040900;
SEC("license") char LICENSE[] = "GPL";
