// A spin lock inside a map value guards two fields that change together.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct account {
	struct bpf_spin_lock lock;
	__u32 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct account);
} accounts SEC(".maps");

SEC("xdp")
int spin_lock(struct xdp_md *ctx)
{
	__u32 len = ctx->data_end - ctx->data, key = len > 100;
	struct account *account = bpf_map_lookup_elem(&accounts, &key);
	__u32 packets;

	if (!account)
		return XDP_ABORTED;
	bpf_spin_lock(&account->lock);
	packets = ++account->packets;
	account->bytes += len;
	bpf_spin_unlock(&account->lock);
	return packets;
}

char LICENSE[] SEC("license") = "GPL";
