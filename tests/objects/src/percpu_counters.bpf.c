// Counters in a per-CPU array and a per-CPU view of them from the program itself.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct datarec {
	__u64 rx_packets;
	__u64 rx_bytes;
	__u32 last_len;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct datarec);
} counters SEC(".maps");

SEC("xdp")
int percpu_counters(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct datarec *rec, *same;
	__u32 key, len = data_end - data;

	if ((void *)(eth + 1) > data_end)
		return XDP_ABORTED;
	key = eth->h_dest[0] == 0xff ? 0 : (eth->h_dest[0] & 1) ? 1 : 2;
	rec = bpf_map_lookup_elem(&counters, &key);
	if (!rec)
		return XDP_ABORTED;
	rec->rx_packets++;
	rec->rx_bytes += len;
	rec->last_len = len;
	same = bpf_map_lookup_percpu_elem(&counters, &key, bpf_get_smp_processor_id());
	if (!same || same->last_len != len)
		return XDP_DROP;
	if (bpf_map_lookup_percpu_elem(&counters, &key, 4096))
		return XDP_DROP;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
