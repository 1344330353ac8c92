// memcpy, memset and memcmp of structs: stack to stack, packet to stack, stack to map value.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

struct inner {
	__u8 mac[6];
	__u16 tag;
};

struct outer {
	struct inner a, b;
	__u8 filler[21];
	__u64 tail;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct inner);
	__type(value, struct outer);
} seen SEC(".maps");

SEC("xdp")
int struct_copies(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct outer o, copy;
	struct inner key;

	if ((void *)(eth + 1) > data_end)
		return XDP_DROP;
	__builtin_memset(&o, 0xa5, sizeof(o));
	__builtin_memcpy(o.a.mac, eth->h_source, 6);
	__builtin_memcpy(o.b.mac, eth->h_dest, 6);
	o.a.tag = eth->h_proto;
	o.tail = 0x1122334455667788;
	copy = o;
	copy.filler[20] = 0;
	__builtin_memcpy(&key, &copy.a, sizeof(key));
	bpf_map_update_elem(&seen, &key, &copy, BPF_ANY);
	return __builtin_memcmp(o.a.mac, o.b.mac, 6) ? XDP_PASS : XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
