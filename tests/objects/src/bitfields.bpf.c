// Bit-fields, signed and unsigned, in a packet header of our own and in a map value.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct custom {
	__u8 eth[14];
	__u8 version : 3, kind : 4, urgent : 1;
	__u8 ttl;
	__u32 first : 5, second : 11, third : 16;
	int offset : 12;
	unsigned int rest : 20;
} __attribute__((packed));

struct flags {
	__u32 count : 20;
	__u32 mode : 4;
	__s32 delta : 8;
	__u64 big : 40;
	__u64 small : 24;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flags);
} state SEC(".maps");

SEC("xdp")
int bitfields(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct custom *c = (void *)(long)ctx->data;
	struct flags *f;
	__u32 zero = 0;

	if ((void *)(c + 1) > data_end)
		return XDP_DROP;
	f = bpf_map_lookup_elem(&state, &zero);
	if (!f)
		return XDP_ABORTED;
	f->count += c->second;
	f->mode = c->kind;
	f->delta += c->offset;
	f->big += (__u64)c->rest << 12;
	f->small ^= c->third;
	c->version = 5;
	c->urgent = !c->urgent;
	c->third = c->first * 3;
	c->offset = -c->offset;
	return f->delta < 0 ? XDP_DROP : XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
