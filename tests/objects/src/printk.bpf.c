// Lines in the trace pipe; what bpf_trace_printk returns is the length of the line.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

long first, second;

SEC("xdp")
int printk(struct xdp_md *ctx)
{
	int len = ctx->data_end - ctx->data;

	first = bpf_printk("packet of %d bytes on %u", len, ctx->ingress_ifindex);
	second = bpf_printk("%llx %s", 0x1234567890abcdefULL, "done");
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
