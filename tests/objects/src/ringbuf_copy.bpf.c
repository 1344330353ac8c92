// bpf_ringbuf_output from the stack, with records of two sizes, and the fill level asked for.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} journal SEC(".maps");

struct record {
	__u64 seq;
	__u32 len;
	char text[12];
};

__u64 seq, avail, ring_size;
long error;

SEC("xdp")
int ringbuf_copy(struct xdp_md *ctx)
{
	struct record r = { .seq = ++seq, .len = ctx->data_end - ctx->data, .text = "a packet" };

	error = bpf_ringbuf_output(&journal, &r, r.len > 64 ? sizeof(r) : 8, BPF_RB_NO_WAKEUP);
	avail = bpf_ringbuf_query(&journal, BPF_RB_AVAIL_DATA);
	ring_size = bpf_ringbuf_query(&journal, BPF_RB_RING_SIZE);
	return error ? XDP_ABORTED : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
