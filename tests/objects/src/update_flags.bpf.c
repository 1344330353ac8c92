// What update and delete answer: EEXIST, ENOENT, E2BIG, EINVAL, kept as numbers in global variables.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} small SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} two SEC(".maps");

long answers[12];

SEC("xdp")
int update_flags(struct xdp_md *ctx)
{
	__u32 one = 1, two_ = 2, three = 3, four = 4, absent = 77;
	__u64 value = ctx->data_end - ctx->data;

	answers[0] = bpf_map_update_elem(&small, &one, &value, BPF_EXIST);
	answers[1] = bpf_map_update_elem(&small, &one, &value, BPF_NOEXIST);
	answers[2] = bpf_map_update_elem(&small, &one, &value, BPF_NOEXIST);
	answers[3] = bpf_map_update_elem(&small, &two_, &value, BPF_ANY);
	answers[4] = bpf_map_update_elem(&small, &three, &value, BPF_ANY);
	answers[5] = bpf_map_update_elem(&small, &four, &value, BPF_ANY);
	answers[6] = bpf_map_delete_elem(&small, &absent);
	answers[7] = bpf_map_delete_elem(&small, &two_);
	answers[8] = bpf_map_update_elem(&two, &two_, &value, BPF_ANY);
	answers[9] = bpf_map_update_elem(&two, &one, &value, BPF_NOEXIST);
	answers[10] = bpf_map_delete_elem(&two, &one);
	answers[11] = bpf_map_update_elem(&small, &three, &value, 5);
	return bpf_map_lookup_elem(&small, &three) ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
