// Reads every field of the context that an ordinary XDP program may read.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u32 length, meta_length, ifindex, queue;

SEC("xdp")
int ctx_fields(struct xdp_md *ctx)
{
	length = ctx->data_end - ctx->data;
	meta_length = ctx->data - ctx->data_meta;
	ifindex = ctx->ingress_ifindex;
	queue = ctx->rx_queue_index;
	return ifindex * 100 + queue;
}

char LICENSE[] SEC("license") = "GPL";
