// bpf_for_each_map_elem over an array and a hash; a callback may stop it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 5);
	__type(key, __u32);
	__type(value, __u64);
} numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u32);
} lengths SEC(".maps");

struct sum {
	__u64 total;
	__u32 visited;
	__u32 limit;
};

static long add(void *map, __u32 *key, __u64 *value, struct sum *sum)
{
	*value += *key + 1;
	sum->total += *value;
	sum->visited++;
	return sum->visited >= sum->limit;
}

static long add_length(void *map, __u32 *key, __u32 *value, struct sum *sum)
{
	sum->total += *key * *value;
	sum->visited++;
	return 0;
}

long array_count, hash_count;
__u64 array_total, hash_total;

SEC("xdp")
int for_each(struct xdp_md *ctx)
{
	struct sum sum = { .limit = 4 };
	__u32 len = ctx->data_end - ctx->data, one = 1, *times;

	times = bpf_map_lookup_elem(&lengths, &len);
	if (times)
		*times += 1;
	else
		bpf_map_update_elem(&lengths, &len, &one, BPF_ANY);
	array_count = bpf_for_each_map_elem(&numbers, add, &sum, 0);
	array_total = sum.total;
	sum.total = 0;
	hash_count = bpf_for_each_map_elem(&lengths, add_length, &sum, 0);
	hash_total = sum.total;
	return sum.visited;
}

char LICENSE[] SEC("license") = "GPL";
