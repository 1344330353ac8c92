// Programs that the verifier refuses for what they do with spin locks, one mistake in each.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct account {
	__u32 packets;
	struct bpf_spin_lock lock;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct account);
} accounts SEC(".maps"), others SEC(".maps");

static __always_inline struct account *look_up(void *map)
{
	__u32 key = 1;

	return bpf_map_lookup_elem(map, &key);
}

SEC("xdp")
int never_unlocked(struct xdp_md *ctx)
{
	struct account *a = look_up(&accounts);

	if (!a)
		return XDP_ABORTED;
	bpf_spin_lock(&a->lock);
	if (a->packets > 5)
		return XDP_DROP;
	bpf_spin_unlock(&a->lock);
	return XDP_PASS;
}

SEC("xdp")
int locked_twice(struct xdp_md *ctx)
{
	struct account *a = look_up(&accounts);

	if (!a)
		return XDP_ABORTED;
	bpf_spin_lock(&a->lock);
	bpf_spin_lock(&a->lock);
	bpf_spin_unlock(&a->lock);
	return XDP_PASS;
}

SEC("xdp")
int never_locked(struct xdp_md *ctx)
{
	struct account *a = look_up(&accounts);

	if (!a)
		return XDP_ABORTED;
	bpf_spin_unlock(&a->lock);
	return XDP_PASS;
}

SEC("xdp")
int of_another_lookup(struct xdp_md *ctx)
{
	struct account *a = look_up(&accounts), *b = look_up(&accounts);

	if (!a || !b)
		return XDP_ABORTED;
	bpf_spin_lock(&a->lock);
	bpf_spin_unlock(&b->lock);
	return XDP_PASS;
}

SEC("xdp")
int of_another_map(struct xdp_md *ctx)
{
	struct account *a = look_up(&accounts), *b = look_up(&others);

	if (!a || !b)
		return XDP_ABORTED;
	bpf_spin_lock(&a->lock);
	bpf_spin_unlock(&b->lock);
	return XDP_PASS;
}

SEC("xdp")
int beside_the_lock(struct xdp_md *ctx)
{
	struct account *a = look_up(&accounts);

	if (!a)
		return XDP_ABORTED;
	bpf_spin_lock((void *)a);
	bpf_spin_unlock((void *)a);
	return XDP_PASS;
}

SEC("xdp")
int calls_while_locked(struct xdp_md *ctx)
{
	struct account *a = look_up(&accounts);

	if (!a)
		return XDP_ABORTED;
	bpf_spin_lock(&a->lock);
	a->bytes = bpf_ktime_get_ns();
	bpf_spin_unlock(&a->lock);
	return XDP_PASS;
}

SEC("xdp")
int reads_the_lock(struct xdp_md *ctx)
{
	struct account *a = look_up(&accounts);

	return a ? *(volatile __u32 *)&a->lock : XDP_ABORTED;
}

char LICENSE[] SEC("license") = "GPL";
