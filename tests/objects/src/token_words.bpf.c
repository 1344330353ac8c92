// Looks at text in the payload in words of eight bytes: counts words equal to a needle from a map, with masks.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct needle {
	__u64 text;
	__u64 mask;
	__u64 found;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct needle);
} needles SEC(".maps");

static __noinline int search(struct xdp_md *ctx, __u32 which)
{
	void *data_end = (void *)(long)ctx->data_end;
	__u8 *data = (void *)(long)ctx->data;
	struct needle *n = bpf_map_lookup_elem(&needles, &which);
	int found = 0;

	if (!n || !n->mask)
		return 0;
	for (int i = 14; i < 62; i++) {
		__u64 *word = (__u64 *)(data + i);

		if ((void *)(word + 1) > data_end)
			break;
		if ((*word & n->mask) == n->text)
			found++;
	}
	n->found += found;
	return found;
}

SEC("xdp")
int token_words(struct xdp_md *ctx)
{
	int total = 0;

	for (__u32 which = 0; which < 3; which++)
		total += search(ctx, which);
	return total;
}

char LICENSE[] SEC("license") = "GPL";
