// Packet access through helpers: copies out of the packet, changes, and back again.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

long load_error, store_error, far_error;
__u64 length;
__u8 seen[20];

SEC("xdp")
int load_store_bytes(struct xdp_md *ctx)
{
	__u8 buf[20];

	length = bpf_xdp_get_buff_len(ctx);
	load_error = bpf_xdp_load_bytes(ctx, 14, buf, sizeof(buf));
	if (load_error)
		return XDP_DROP;
	__builtin_memcpy(seen, buf, sizeof(seen));
	for (int i = 0; i < 10; i++) {
		__u8 t = buf[i];

		buf[i] = buf[19 - i];
		buf[19 - i] = t;
	}
	store_error = bpf_xdp_store_bytes(ctx, 14, buf, sizeof(buf));
	far_error = bpf_xdp_load_bytes(ctx, length - 4, buf, 8);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
