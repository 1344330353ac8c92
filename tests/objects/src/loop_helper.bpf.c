// bpf_loop with a callback that reads the packet through the context it is given, and stops early.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct walk {
	struct xdp_md *xdp;
	__u32 found_at;
	__u32 sum;
};

static int look(__u32 index, struct walk *w)
{
	void *data_end = (void *)(long)w->xdp->data_end;
	__u8 *data = (void *)(long)w->xdp->data;
	__u8 *byte = data + (index & 0xff);

	if ((void *)(byte + 1) > data_end)
		return 1;
	w->sum += *byte;
	if (*byte == 0x7f) {
		w->found_at = index;
		return 1;
	}
	return 0;
}

long iterations, too_many;
__u32 sum;

SEC("xdp")
int loop_helper(struct xdp_md *ctx)
{
	struct walk w = { .xdp = ctx, .found_at = 4095 };

	iterations = bpf_loop(200, look, &w, 0);
	too_many = bpf_loop(1 << 24, look, &w, 0);
	sum = w.sum;
	return w.found_at;
}

char LICENSE[] SEC("license") = "GPL";
